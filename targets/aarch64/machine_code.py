"""Machine code of aarch64: its instructions, and the assembly of them that llvm-mca models well."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable

from tvm_rsq.errors import TargetError
from tvm_rsq.targets.llvm_tools import LlvmTools, complaint

TRIPLE = "aarch64-linux-gnu"
WORD = 4  # bytes of an instruction
_BEHIND = re.compile(r"(?P<access>.*\[(?P<base>x\d+|sp)\]), (?P<step>#-?\d+|x\d+)")  # ldr q0, [x1], #16
_BEFORE = re.compile(r"(?P<access>.*\[(?P<base>x\d+|sp)), (?P<step>#-?\d+)\]!")  # ldr q0, [x1, #16]!


def words(code: bytes) -> list[bytes]:
    """The instructions of `code`."""
    return [code[at : at + WORD] for at in range(0, len(code), WORD)]


def disassemble(wanted: Iterable[bytes], tools: LlvmTools) -> dict[bytes, tuple[str, ...]]:
    """Instruction -> its lines for llvm-mca: one, or two for an access that moves its pointer.

    Several of LLVM's descriptions let a pointer that is moved wait for the data that is loaded, which makes a loop over memory one long
    chain: LLVM 19 takes 5 cycles for each `ldr q0, [x1], #16` of it on a cortex-a57, 6 on a neoverse-n2, and 1 on an n1.
    TargetError: LLVM does not know an instruction.
    """
    wanted = sorted(set(wanted))
    lines = "\n".join(" ".join(f"0x{byte:02x}" for byte in word) for word in wanted) + "\n"
    command = [tools.mc, "--disassemble", f"-triple={TRIPLE}", "-mattr=+all"]
    done = subprocess.run(command, input=lines, capture_output=True, text=True, check=False)
    text = [line.strip() for line in done.stdout.splitlines() if line.strip() and not line.strip().startswith(".")]
    if done.returncode or len(text) != len(wanted):
        raise TargetError(f"{tools.mc} does not know an instruction: {complaint(done.stderr)}; install a newer LLVM")
    return {word: separate_step(re.sub(r"\s*//.*", "", line)) for word, line in zip(wanted, text, strict=True)}


def separate_step(line: str) -> tuple[str, ...]:
    """`ldr q0, [x1], #16` -> `ldr q0, [x1]`, `add x1, x1, #16`; what moves no pointer stays as it is."""
    if found := _BEHIND.fullmatch(line):
        return found["access"], _add(found["base"], found["step"])
    if found := _BEFORE.fullmatch(line):
        return _add(found["base"], found["step"]), f"{found['access']}]"
    return (line,)


def is_branch(word: bytes) -> bool:
    """Branches, exceptions and system instructions: bits 28 to 26 are 101."""
    return int.from_bytes(word, "little") >> 26 & 0b111 == 0b101


def _add(base: str, step: str) -> str:
    return f"sub {base}, {base}, #{step[2:]}" if step.startswith("#-") else f"add {base}, {base}, {step}"
