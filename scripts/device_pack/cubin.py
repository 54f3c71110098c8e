"""Machine code of a bundle's kernels, and what ptxas says of every one."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tvm_rsq.errors import TargetError
from tvm_rsq.targets.cuda import nvcc

ARCHS = ("sm_75", "sm_80", "sm_87", "sm_90")


class PackError(Exception):
    """A bundle that cannot be made; the message is one line and says what to do."""


@dataclass(frozen=True, slots=True)
class Resources:
    """Of a kernel.

    registers  of a thread
    stack      bytes of a thread;  spilled  bytes stored and loaded there as registers ran out
    shared     bytes of a block
    """

    registers: int
    stack: int
    spilled: int
    shared: int


def compile_cubin(source: str, arch: str, path: Path) -> dict[str, Resources]:
    """Write the machine code to `path`; symbol -> resources.   PackError: nvcc is missing, or refuses."""
    try:
        code, said = nvcc.cubin(source, arch, report=True)
    except TargetError as error:
        raise PackError(str(error)) from error
    path.write_bytes(code)
    return resources(said)


def resources(said: str) -> dict[str, Resources]:
    """Of what ptxas -v said; symbol -> resources."""
    found = {}
    for symbol, text in re.findall(r"Compiling entry function '(\w+)'(.*?)(?=Compiling entry function|\Z)", said, re.S):
        stack, *spills = map(int, re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", text).groups())
        shared = re.search(r"(\d+) bytes smem", text)
        registers = int(re.search(r"Used (\d+) registers", text)[1])
        found[symbol] = Resources(registers, stack, sum(spills), int(shared[1]) if shared else 0)
    return found


def nvcc_version() -> str:
    said = subprocess.run([nvcc.find_nvcc(), "--version"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"V(\d[\d.]*)", said)
    return found[1] if found else "unknown"
