"""The innermost loop of a kernel in x86-64 assembly (AT&T syntax, as LLVM writes it), and what it does besides multiplying.

A loop is what lies between a label and a jump back to it; it is innermost where no label of another loop lies inside.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

_MULTIPLY = re.compile(r"vpdpbusd|vpdpwssd|v?pmaddwd|vfmadd\d+ps|v?mulps")
_LABEL = re.compile(r"(\.LBB\w+):")
_JUMP = re.compile(r"j\w+\s+(\.LBB\w+)$")
# Spills are relative to the stack pointer, or to rbp in a function that makes a frame pointer of it; elsewhere rbp is any register.
_STACK, _STACK_OR_FRAME = re.compile(r"\(%rsp[,)]"), re.compile(r"\(%r[sb]p[,)]")
_MAKES_FRAME = re.compile(r"movq\s+%rsp, %rbp$")


@dataclass(frozen=True, slots=True, kw_only=True)
class InnerLoop:
    """Instructions of one iteration, and how many of them multiply and how many touch the stack."""

    instructions: int
    multiplications: int
    stack: int


def densest_loop(assembly: str) -> InnerLoop | None:
    """The innermost loop with the largest part of multiplications, of all functions of one kernel; None: no loop multiplies.

    It is where a kernel's time goes. Loops that transform or requantize multiply as well, among much else.
    """
    lines = [line.partition("#")[0].strip() for line in assembly.splitlines()]
    loops = [_loop(lines[start : end + 1], _stack(lines[:start])) for start, end in _innermost(lines)]
    loops = [loop for loop in loops if loop.multiplications]
    return max(loops, key=lambda loop: (loop.multiplications / loop.instructions, loop.instructions), default=None)


def _innermost(lines: Sequence[str]) -> Iterator[tuple[int, int]]:
    """First and last line of each."""
    labels = {found.group(1): i for i, line in enumerate(lines) if (found := _LABEL.fullmatch(line))}
    spans = [(labels[found.group(1)], i) for i, line in enumerate(lines) if (found := _JUMP.match(line)) and found.group(1) in labels]
    back = [(start, end) for start, end in spans if start < end]
    for start, end in back:
        if not any(start <= s and e <= end and (s, e) != (start, end) for s, e in back):
            yield start, end


def _loop(body: Sequence[str], stack: re.Pattern[str]) -> InnerLoop:
    code = [line.replace("{vex}", "").strip() for line in body if line and not line.endswith(":") and not line.startswith(".")]
    return InnerLoop(
        instructions=len(code),
        multiplications=sum(_MULTIPLY.match(line) is not None for line in code),
        stack=sum(stack.search(line) is not None for line in code),
    )


def _stack(before: Sequence[str]) -> re.Pattern[str]:
    """How the function that `before` ends in addresses its stack."""
    for line in reversed(before):
        if _MAKES_FRAME.match(line):
            return _STACK_OR_FRAME
        if line == ".cfi_startproc":
            break
    return _STACK
