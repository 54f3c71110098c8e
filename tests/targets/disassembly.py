"""The instructions of an aarch64 library, and which extension of Armv8.0-A each belongs to."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

_OBJDUMP = "aarch64-linux-gnu-objdump"
_LSE = re.compile(r"(ld|st)(add|clr|set|eor|[su](max|min))(a?l?)[bh]?$|(cas|swp)p?(a?l?)[bh]?$")
_HALF = re.compile(r"\bh\d+\b|\.[48]h\b|\.h\[")
_HALF_CONVERSIONS = {"fcvt", "fcvtl", "fcvtl2", "fcvtn", "fcvtn2"}  # from half to single and back: Armv8.0-A has them


@dataclass(frozen=True, slots=True)
class Instruction:
    """mnemonic "sdot", operands "v0.4s, v1.16b, v2.16b"."""

    mnemonic: str
    operands: str

    @property
    def is_dot_product(self) -> bool:
        return self.mnemonic in ("sdot", "udot")

    @property
    def is_i8mm(self) -> bool:
        return self.mnemonic in ("smmla", "ummla", "usmmla", "usdot", "sudot")

    @property
    def is_half(self) -> bool:
        """Arithmetic in float16."""
        is_float = self.mnemonic.startswith(("f", "scvtf", "ucvtf")) and self.mnemonic not in _HALF_CONVERSIONS
        return is_float and _HALF.search(self.operands) is not None

    @property
    def is_sve(self) -> bool:
        return re.search(r"\b[zp]\d+\b", self.operands) is not None or self.mnemonic in ("rdvl", "addvl", "cntb", "cnth", "cntw", "cntd")

    @property
    def is_lse(self) -> bool:
        return _LSE.match(self.mnemonic) is not None

    @property
    def is_bfloat(self) -> bool:
        return self.mnemonic.startswith("bf") and self.mnemonic not in ("bfi", "bfxil", "bfm", "bfc")


def instructions(library: Path) -> Iterator[Instruction]:
    """All of the library's; the test is skipped where nothing takes it apart."""
    if shutil.which(_OBJDUMP) is None:
        pytest.skip(f"{_OBJDUMP} is not installed; run: apt install binutils-aarch64-linux-gnu")
    text = subprocess.run([_OBJDUMP, "-d", "--no-show-raw-insn", str(library)], check=True, capture_output=True, text=True).stdout
    for line in text.splitlines():
        # "   12f4:\tsdot\tv0.4s, v1.16b, v2.16b"
        if found := re.match(r"\s+[0-9a-f]+:\t(\S+)(?:\t([^/]*))?", line):
            yield Instruction(found[1], (found[2] or "").strip())
