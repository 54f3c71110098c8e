"""TVM's runtime for a bundle: its Python package and libraries without the compiler, and the package below it for the Python there."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from importlib.metadata import version
from pathlib import Path

import tvm
import tvm_ffi

from scripts.device_pack.cubin import PackError

HERE = f"{sys.version_info.major}.{sys.version_info.minor}"
_LEFT_OUT = ("3rdparty", "src", "include", "web", "lib64", "cmake", "libtvm_compiler.so", "__pycache__")
_PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_24_x86_64", "manylinux2014_x86_64")


def pack_runtime(archive: Path, python: str) -> None:
    """As a .tar.xz, for that version of Python on x86-64.   PackError: it cannot be fetched"""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "runtime"
        _collect(folder, python)
        with tarfile.open(archive, "w:xz") as made:
            for part in sorted(folder.iterdir()):
                made.add(part, part.name)


def _collect(folder: Path, python: str) -> None:
    shutil.copytree(Path(tvm.__file__).parent, folder / "tvm", ignore=shutil.ignore_patterns(*_LEFT_OUT))
    if python == HERE:
        shutil.copytree(Path(tvm_ffi.__file__).parent, folder / "tvm_ffi", ignore=shutil.ignore_patterns("__pycache__", "include", "src"))
        return
    with tempfile.TemporaryDirectory() as scratch:
        wanted = f"apache-tvm-ffi=={version('apache-tvm-ffi')}"
        platforms = [word for platform in _PLATFORMS for word in ("--platform", platform)]
        command = [
            sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary=:all:",
            "--python-version", python, "--implementation", "cp", *platforms, "--dest", scratch, wanted,
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        found = list(Path(scratch).glob("*.whl"))
        if done.returncode or len(found) != 1:
            last = ((done.stderr or done.stdout).strip().splitlines() or ["no message"])[-1]
            raise PackError(f"pip download {wanted} for Python {python} failed: {last}")
        with zipfile.ZipFile(found[0]) as wheel:
            kept = [name for name in wheel.namelist() if name.startswith("tvm_ffi/") and "/include/" not in name and "/src/" not in name]
            wheel.extractall(folder, kept)
