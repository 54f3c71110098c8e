"""CUDA source to machine code, on a machine that needs no GPU: by NVIDIA's compiler."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence

from tvm_rsq.errors import TargetError
from tvm_rsq.held_folder import scratch_folder

# No product and sum are made an fma but ours: results are the same on every target.
_USUAL = "/usr/local/cuda/bin"
_OPTIONS = ("-O3", "--fmad=false", "-w")


def is_installed() -> bool:
    return _nvcc() is not None


def find_nvcc() -> str:
    """The command.   TargetError: it is not installed"""
    if found := _nvcc():
        return found
    raise TargetError(
        "compiling for CUDA takes nvcc, which is neither on the PATH, in $CUDA_HOME/bin nor in /usr/local/cuda/bin; "
        "install NVIDIA's CUDA toolkit"
    )


def fatbin(source: str, arch: str) -> bytes:
    """Machine code for `arch` ("sm_90"), and PTX for later ones.   TargetError: nvcc is missing or fails"""
    virtual = arch.replace("sm_", "compute_")
    # Functions are optimised side by side, on all cores.
    return _compiled(source, ["-fatbin", f"-gencode=arch={virtual},code=[{arch},{virtual}]", "--split-compile=0"], "fatbin")


def cubin(source: str, arch: str, *, report: bool = False) -> tuple[bytes, str]:
    """Machine code for `arch` alone, and what the assembler says of registers, shared memory and spills."""
    said: list[str] = []
    made = _compiled(source, ["-cubin", f"-arch={arch}", *(["-Xptxas", "-v"] if report else [])], "cubin", said)
    return made, "\n".join(said)


def ptx(source: str, arch: str) -> str:
    return _compiled(source, ["-ptx", f"-arch={arch.replace('sm_', 'compute_')}"], "ptx").decode()


def _nvcc() -> str | None:
    homes = [os.environ[name] for name in ("CUDA_HOME", "CUDA_PATH") if os.environ.get(name)]
    places = (None, *(f"{home}/bin" for home in homes), _USUAL)
    return next(filter(None, (shutil.which("nvcc", path=place) for place in places)), None)


def _compiled(source: str, options: Sequence[str], suffix: str, said: list[str] | None = None) -> bytes:
    command = find_nvcc()
    with scratch_folder() as folder:
        path, made = folder / "kernels.cu", folder / f"kernels.{suffix}"
        path.write_text(source)
        done = subprocess.run([command, *_OPTIONS, *options, "-o", made, path], capture_output=True, text=True, check=False, cwd=folder)
        if done.returncode or not made.is_file():
            lines = [line for line in done.stderr.splitlines() if "error" in line] or done.stderr.strip().splitlines() or ["no message"]
            raise TargetError(f"nvcc failed for {' '.join(options)}: {lines[0]}")
        if said is not None:
            said.append(done.stderr + done.stdout)
        return made.read_bytes()
