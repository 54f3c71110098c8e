"""Instructions that an emulated board executed inside uploaded libraries: the same on every machine, in every call.

A session of such a board offers two functions, `tvm_rsq.counts.reset` and `tvm_rsq.counts.read`. A real board offers neither.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from tvm_rsq.errors import DeviceError

RESET, READ = "tvm_rsq.counts.reset", "tvm_rsq.counts.read"
SCHEMA = 1
ALL = "all"  # the kind that every instruction is of
_WORD = 4  # bytes of an instruction


@dataclass(frozen=True, slots=True, kw_only=True)
class CountedBlock:
    """Instructions that are executed one behind the other, as the emulator cut them: to the next branch, page or 512 instructions.

    file        name of the library
    offset      of the first instruction in the file, in bytes
    code        the instructions, 4 bytes each
    executions  how often, 1 or more
    """

    file: str
    offset: int
    code: bytes
    executions: int

    @property
    def instructions(self) -> int:
        """Of one execution."""
        return len(self.code) // _WORD


@dataclass(frozen=True, slots=True, kw_only=True)
class InstructionCounts:
    """What one call executed inside the libraries that are counted; what these call elsewhere, such as memset, is not in it.

    kinds   kind -> instructions: "all", and those that matter among them: "dot", "matmul", "multiply_long", "multiply", "pairwise_add",
            "table", "float", "load", "store", "branch"; kinds["all"] == sum(block.instructions * block.executions)
    blocks  by file and offset; a block that another one jumps into is there twice, with its own executions each
    """

    kinds: Mapping[str, int]
    blocks: tuple[CountedBlock, ...]

    def __post_init__(self) -> None:
        executed = sum(block.instructions * block.executions for block in self.blocks)
        if self.kinds.get(ALL) != executed:
            raise DeviceError(
                f"the board counted {self.kinds.get(ALL)} instructions, and {executed} in blocks; use the emulator of this version"
            )

    @property
    def total(self) -> int:
        return self.kinds[ALL]


def measure(session: Any, call: Callable[[], object]) -> InstructionCounts:
    """What `call` executes on the board of `session` (a TVM RPC session), which it must have finished when it returns.

    Repeatable to the instruction when the board's TVM_NUM_THREADS is 1. A first call may execute more than later ones: make one before.
    DeviceError: the board counts nothing, or the call ran nothing that is counted, which would be the best of all.
    """
    reset, read = _offered(session, RESET), _offered(session, READ)
    reset()
    call()
    found = parse(read())
    if not found.blocks:
        raise DeviceError("the call executed no instruction of an uploaded library; call a function of one, and wait for it")
    return found


def counts_instructions(session: Any) -> bool:
    """Whether `measure` works with this session."""
    try:
        _offered(session, RESET)
    except DeviceError:
        return False
    return True


def parse(text: str) -> InstructionCounts:
    """What tvm_rsq.counts.read returned: {"schema": 1, "kinds": {kind: n}, "files": [name], "blocks": [[file, offset, executions, hex]]}.

    DeviceError: it is something else.
    """
    try:
        found = json.loads(text)
        if found["schema"] != SCHEMA:
            raise DeviceError(f"the board counts by schema {found['schema']}, expected {SCHEMA}; use the emulator of this version")
        names = found["files"]
        blocks = [
            CountedBlock(file=names[file], offset=int(offset), code=bytes.fromhex(code), executions=int(executions))
            for file, offset, executions, code in found["blocks"]
        ]
        kinds = {str(kind): int(number) for kind, number in found["kinds"].items()}
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise DeviceError(
            f"the board sent no counts ({type(error).__name__}: {error}), expected schema {SCHEMA}; use the emulator of this version"
        ) from error
    blocks.sort(key=lambda block: (block.file, block.offset, len(block.code)))
    return InstructionCounts(kinds=MappingProxyType(kinds), blocks=tuple(blocks))


def _offered(session: Any, name: str) -> Callable[..., Any]:
    try:
        return session.get_function(name)
    except (AttributeError, ValueError) as error:  # what TVM's client raises for an unknown name
        raise DeviceError(
            f"this board counts no instructions: it offers no {name}, as only emulated ones do; "
            "run scripts/arm_emulator and name its key, or give --measure time"
        ) from error
