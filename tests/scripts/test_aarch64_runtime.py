"""The aarch64 runtime in the cache is whole or absent, comes from the wheels that are meant, and a damaged one is made again."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import pytest

from scripts.emulator import runtime_libraries, unpack_wheels
from scripts.emulator.runtime_libraries import are_cached
from scripts.emulator.toolchain import EmulatorError
from scripts.emulator.unpack_wheels import SUMS, Wheel

_METADATA = "Metadata-Version: 2.1\nName: a-runtime\nVersion: 1.0\n"
_TAGS = "Wheel-Version: 1.0\nRoot-Is-Purelib: false\nTag: py3-none-manylinux_2_28_aarch64\n"


@pytest.fixture
def index(tmp_path, monkeypatch) -> Path:
    """A folder that pip takes for its only index, with one wheel in it; the runtime is made of that one."""
    folder = tmp_path / "index"
    folder.mkdir()
    path = folder / "a_runtime-1.0-py3-none-manylinux_2_28_aarch64.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("a/lib/library.so", b"code")
        wheel.writestr("a/include/a/header.h", b"// a header")
        wheel.writestr("a/other.py", b"not kept")
        for name, text in {"METADATA": _METADATA, "WHEEL": _TAGS, "RECORD": ""}.items():
            wheel.writestr(f"a_runtime-1.0.dist-info/{name}", text)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setattr(runtime_libraries, "WHEELS", (Wheel("a-runtime", "1.0", digest, ("a/lib/library.so", "a/include/")),))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def fetched(cache: Path) -> set[str]:
    folder = runtime_libraries.runtime_libraries(cache)
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_only_what_is_needed_is_kept(index, tmp_path):
    assert not are_cached(tmp_path / "cache")
    assert fetched(tmp_path / "cache") == {"a/lib/library.so", "a/include/a/header.h", SUMS}
    assert are_cached(tmp_path / "cache")
    assert list((tmp_path / "cache" / ".downloads").iterdir()) == []


def test_nothing_is_fetched_twice(index, tmp_path):
    first = fetched(tmp_path / "cache")
    for path in index.iterdir():
        path.unlink()
    assert fetched(tmp_path / "cache") == first


@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: path.write_bytes(b"other code")])
def test_a_damaged_one_is_made_again(index, tmp_path, damage):
    fetched(tmp_path / "cache")
    library = runtime_libraries.runtime_libraries(tmp_path / "cache") / "a/lib/library.so"
    damage(library)
    assert not are_cached(tmp_path / "cache")
    fetched(tmp_path / "cache")
    assert library.read_bytes() == b"code"


def test_an_interrupted_run_goes_on_from_the_wheel(index, tmp_path, monkeypatch):
    with monkeypatch.context() as interrupted, pytest.raises(KeyboardInterrupt):

        def unpack(*_arguments: object) -> None:
            raise KeyboardInterrupt

        interrupted.setattr(unpack_wheels, "_unpack", unpack)
        fetched(tmp_path / "cache")
    for path in index.iterdir():
        path.unlink()
    assert "a/lib/library.so" in fetched(tmp_path / "cache")


def test_another_wheel_is_not_used(index, tmp_path):
    for path in index.iterdir():
        with zipfile.ZipFile(path, "a") as wheel:
            wheel.writestr("a/more.py", b"more")
    with pytest.raises(EmulatorError, match="has sha256 .*, expected .*; not used"):
        fetched(tmp_path / "cache")
    assert not are_cached(tmp_path / "cache")


def test_a_wheel_that_cannot_be_had(index, tmp_path):
    for path in index.iterdir():
        path.unlink()
    with pytest.raises(EmulatorError, match="pip download a-runtime==1.0 for manylinux_2_28_aarch64 failed: .*; check the network"):
        fetched(tmp_path / "cache")
