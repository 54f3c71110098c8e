"""Counts of a whole library, split among its kernels: which of them is worth work."""

from __future__ import annotations

import struct
import subprocess
import tempfile
from bisect import bisect_right
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from scripts.emulator.toolchain import EmulatorError
from tvm_rsq.remote.counts import ALL, CountedBlock, InstructionCounts
from tvm_rsq.remote.modelled_cycles import CycleModel

_NM = "aarch64-linux-gnu-nm"  # of the cross compiler's binutils
_LOAD = 1  # type of a segment


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelCount:
    """Of all calls of a kernel in one inference. cycles: modelled; None: not asked for"""

    name: str
    instructions: int
    cycles: float | None


def by_kernel(counts: InstructionCounts, library: bytes, model: CycleModel | None) -> tuple[KernelCount, ...]:
    """The one with most instructions first. Parallel loops have no name and lie behind the kernel that they are of.

    EmulatorError: the library's symbols cannot be read.
    """
    symbols = _symbols(library)
    starts = [start for start, _ in symbols]
    blocks: dict[str, list[CountedBlock]] = defaultdict(list)
    for block in counts.blocks:
        at = bisect_right(starts, _address(library, block.offset)) - 1
        blocks[_kernel(symbols[at][1]) if at >= 0 else "?"].append(block)
    found = []
    for name, members in blocks.items():
        total = sum(block.instructions * block.executions for block in members)
        part = InstructionCounts(kinds={ALL: total}, blocks=tuple(members))
        found.append(KernelCount(name=name, instructions=total, cycles=None if model is None else model.cycles(part)))
    return tuple(sorted(found, key=lambda kernel: (-kernel.instructions, kernel.name)))


def _kernel(symbol: str) -> str:
    return symbol.removeprefix("__tvm_ffi_").removesuffix("_compute_")


def _symbols(library: bytes) -> list[tuple[int, str]]:
    """(address, name) of functions, ascending."""
    with tempfile.TemporaryDirectory(prefix="tvm-rsq-") as folder:
        path = Path(folder) / "library.so"
        path.write_bytes(library)
        done = subprocess.run([_NM, "--defined-only", str(path)], capture_output=True, text=True, check=False)
    lines = [line.split() for line in done.stdout.splitlines()]
    found = sorted((int(words[0], 16), words[2]) for words in lines if len(words) == 3 and words[1] in "tT")
    if done.returncode or not found:
        raise EmulatorError(f"{_NM} finds no functions in the library: {done.stderr.strip() or 'it was stripped'}")
    return found


def _address(library: bytes, offset: int) -> int:
    """Where byte `offset` of an ELF file is loaded to, relative to the file's start in memory."""
    (headers,) = struct.unpack_from("<Q", library, 32)
    size, count = struct.unpack_from("<HH", library, 54)
    for i in range(count):
        kind, _flags, at, address, _physical, length = struct.unpack_from("<IIQQQQ", library, headers + i * size)
        if kind == _LOAD and at <= offset < at + length:
            return address + offset - at
    raise EmulatorError(f"byte {offset} of the library is not loaded; was another library counted?")
