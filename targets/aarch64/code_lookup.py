"""Codes to weights in registers: tbl among 16 bytes of one register, or among 64 of four."""

from __future__ import annotations

from dataclasses import dataclass

from tvm import tirx
from tvm.ir import Expr

from tvm_rsq.targets.generic.code_lookup import CodeLookup, GatherLookup

_TBL = {1: "llvm.aarch64.neon.tbl1", 4: "llvm.aarch64.neon.tbl4"}


@dataclass(frozen=True, slots=True)
class TableLookup:
    """On 8 lanes, and on any whole number of registers of 16; byte by byte on other lanes."""

    def apply(self, table: Expr, entries: int, codes: Expr, lanes: int) -> Expr:
        if lanes != 8 and lanes % 16:
            return GatherLookup().apply(table, entries, codes, lanes)
        registers = [table.vload([at], "int8x16") for at in range(0, entries, 16)]
        index = tirx.reinterpret(f"int8x{lanes}", codes)
        if lanes <= 16:
            return _found(registers, index, lanes)
        pieces = [_found(registers, tirx.Shuffle([index], list(range(at, at + 16))), 16) for at in range(0, lanes, 16)]
        return tirx.Shuffle(pieces, list(range(lanes)))

    def is_quick(self, entries: int, lanes: int) -> bool:
        return lanes == 8 or lanes % 16 == 0


def code_lookup(features: frozenset[str]) -> CodeLookup:
    """For a CPU with these LLVM features."""
    return TableLookup() if "neon" in features else GatherLookup()


def _found(registers: list[Expr], index: Expr, lanes: int) -> Expr:
    return tirx.call_llvm_pure_intrin(f"int8x{lanes}", f"{_TBL[len(registers)]}.v{lanes}i8", *registers, index)
