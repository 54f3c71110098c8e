"""Codes to weights in registers: pshufb for 16 entries, vpermb (AVX512-VBMI) or four pshufb and blends for 64."""

from __future__ import annotations

from dataclasses import dataclass

from tvm import tirx
from tvm.ir import Expr

from tvm_rsq.targets.generic.code_lookup import CodeLookup, GatherLookup
from tvm_rsq.targets.generic.steps import vector

_PSHUFB = {16: "llvm.x86.ssse3.pshuf.b.128", 32: "llvm.x86.avx2.pshuf.b", 64: "llvm.x86.avx512.pshuf.b.512"}
_NEEDS = {16: "ssse3", 32: "avx2", 64: "avx512bw"}


@dataclass(frozen=True, slots=True)
class ShuffleLookup:
    """On vectors of the widths in `widths`, bytes; permutes: whether there is vpermb."""

    widths: tuple[int, ...]
    permutes: bool = False

    def apply(self, table: Expr, entries: int, codes: Expr, lanes: int) -> Expr:
        if lanes == 8 and 16 in self.widths:  # half of a register
            twice = tirx.Shuffle([codes, codes], list(range(16)))
            return tirx.Shuffle([self.apply(table, entries, twice, 16)], list(range(8)))
        if lanes not in self.widths:
            return GatherLookup().apply(table, entries, codes, lanes)
        index = tirx.reinterpret(vector("int8", lanes), codes)
        if entries == 64 and lanes == 64 and self.permutes:
            return tirx.call_llvm_pure_intrin("int8x64", "llvm.x86.avx512.permvar.qi.512", table.vload([0], "int8x64"), index)
        if entries == 16:
            return self._among_16(table, 0, index, lanes)
        low_bits = index & tirx.const(15, f"int8x{lanes}")
        quarters = [self._among_16(table, start, low_bits, lanes) for start in range(0, entries, 16)]

        def bit(value: int) -> Expr:
            return (index & tirx.const(value, f"int8x{lanes}")) != tirx.const(0, f"int8x{lanes}")

        low, high = (tirx.Select(bit(16), quarters[at + 1], quarters[at]) for at in (0, 2))
        return tirx.Select(bit(32), high, low)

    def is_quick(self, entries: int, lanes: int) -> bool:
        return (lanes in self.widths or (lanes == 8 and 16 in self.widths)) and (entries == 16 or (self.permutes and lanes == 64))

    @staticmethod
    def _among_16(table: Expr, start: int, index: Expr, lanes: int) -> Expr:
        entries = table.vload([start], "int8x16")
        repeated = entries if lanes == 16 else tirx.Shuffle([entries] * (lanes // 16), list(range(lanes)))
        return tirx.call_llvm_pure_intrin(f"int8x{lanes}", _PSHUFB[lanes], repeated, index)


def code_lookup(features: frozenset[str]) -> CodeLookup:
    """For a CPU with these LLVM features."""
    widths = tuple(width for width, feature in _NEEDS.items() if feature in features)
    return ShuffleLookup(widths, permutes="avx512vbmi" in features) if widths else GatherLookup()
