"""Kernels for aarch64, called on a machine of another kind: compiled, linked, and run by qemu, one process a call."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from tvm.tirx import PrimFunc
from tvm_ffi import libinfo

from scripts.instructions.build_library import build_library
from tvm_rsq.targets.spec import TargetSpec

_RUNNER = Path(__file__).parents[2] / "scripts" / "instructions" / "runner.c"
_QEMU, _COMPILER = "qemu-aarch64", "aarch64-linux-gnu-gcc"
_NEEDS = {_QEMU: "qemu-user", _COMPILER: "g++-aarch64-linux-gnu"}


def lacking_for_qemu() -> str:
    """What is missing to run code for aarch64 here, and how to install it; empty where nothing is."""
    lacking = (command for command in _NEEDS if shutil.which(command) is None)
    return next((f"{command} is not installed; run: apt install {_NEEDS[command]}" for command in lacking), "")


def skip_without_qemu() -> None:
    if lacking := lacking_for_qemu():
        pytest.skip(lacking)


class QemuLibrary:
    """Kernels in a library of their own, in `folder`.   cpu: what qemu emulates; None is the least that the code was compiled for"""

    def __init__(self, kernels: Mapping[str, PrimFunc], spec: TargetSpec, folder: Path, cpu: str | None = None) -> None:
        self._library, self._runner, self._data = folder / "kernels.so", folder / "runner", folder / "data"
        self._calls = dict(zip(kernels, build_library(kernels, spec, self._library).splitlines(keepends=True), strict=True))
        includes = [f"-I{path}" for path in libinfo.include_paths()]
        subprocess.run([_COMPILER, "-O1", *includes, "-rdynamic", "-o", str(self._runner), str(_RUNNER), "-ldl"], check=True)
        qemu = [_QEMU, "-cpu", cpu or _least_cpu(spec), "-L", str(_sysroot())]
        self._command = [*qemu, str(self._runner), str(self._library), str(self._data)]

    def call(self, kernel: str, *arrays: np.ndarray) -> list[np.ndarray]:
        """What the kernel leaves of its arguments, in order; the arrays stay as they are."""
        self._data.write_bytes(b"".join(array.tobytes() for array in arrays))
        done = subprocess.run(self._command, input=self._calls[kernel], capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{kernel} ended with {done.returncode}: {done.stderr}"
        left, found = self._data.read_bytes(), []
        for array in arrays:
            found.append(np.frombuffer(left[: array.nbytes], array.dtype).reshape(array.shape))
            left = left[array.nbytes :]
        return found


def run_program(source: Path, cpu: str) -> str:
    """What a C program writes on an emulated CPU; it is built beside its source."""
    program = source.with_suffix("")
    subprocess.run([_COMPILER, "-O1", "-o", str(program), str(source)], check=True)
    command = [_QEMU, "-cpu", cpu, "-L", str(_sysroot()), str(program)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def _least_cpu(spec: TargetSpec) -> str:
    """No newer a CPU than the code was compiled for, which ends the process at the first instruction that it lacks."""
    if spec.features & {"i8mm", "bf16", "sve"}:
        return "max"
    return "cortex-a76" if "dotprod" in spec.features else "cortex-a72"


def _sysroot() -> Path:
    """Where the cross compiler's libc is installed."""
    libc = subprocess.run([_COMPILER, "-print-file-name=libc.so.6"], check=True, capture_output=True, text=True).stdout.strip()
    return Path(libc).resolve().parents[1]
