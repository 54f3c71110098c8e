"""x86 saturating packs: up to four int32 vectors to bytes by packssdw and packuswb, which clip to 0..255 on the way."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tvm import tirx
from tvm.ir import Expr

from tvm_rsq.targets.generic.narrow import CLIP, Narrow

_SSDW = {4: "llvm.x86.sse2.packssdw.128", 8: "llvm.x86.avx2.packssdw", 16: "llvm.x86.avx512.packssdw.512"}
_USWB = {4: "llvm.x86.sse2.packuswb.128", 8: "llvm.x86.avx2.packuswb", 16: "llvm.x86.avx512.packuswb.512"}


@dataclass(frozen=True, slots=True)
class PackNarrow:
    """Packs of vectors of up to `lanes` int32: 4, 8 or 16. A number of lanes that no pack has is clipped."""

    lanes: int
    takes_low_half: bool = False
    takes_signed: bool = False

    def groups(self, lanes: int, vecs: int) -> Sequence[tuple[int, int]]:
        width = math.gcd(lanes, self.lanes)
        if width < 4:
            return ((lanes, 1),) * vecs
        count = lanes * vecs // width
        return tuple((width, min(4, count - i)) for i in range(0, count, 4))

    def apply(self, vectors: Sequence[Expr], lanes: int, qmin: int, qmax: int, *, low_half: bool = False, signed: bool = False) -> Expr:
        # Less than 128 bits have no pack, and one vector of 512 has vpmovusdb.
        if lanes not in _SSDW or (lanes == 16 and len(vectors) == 1):
            return CLIP.apply(vectors, lanes, qmin, qmax)
        if lanes == 8 and len(vectors) == 1:
            halves = [tirx.Shuffle(vectors, _int32s(range(at, at + 4))) for at in (0, 4)]
            return self.apply(halves, 4, qmin, qmax)
        packed = _pack(vectors, lanes)
        if qmin > 0:
            packed = tirx.max(packed, tirx.const(qmin, f"uint8x{4 * lanes}"))
        if qmax < 255:
            packed = tirx.min(packed, tirx.const(qmax, f"uint8x{4 * lanes}"))
        order = [_place(v, i, lanes) for v in range(len(vectors)) for i in range(lanes)]
        return packed if order == list(range(4 * lanes)) else tirx.Shuffle([packed], _int32s(order))


def packs(features: frozenset[str]) -> Narrow:
    """The widest packs of a CPU with these LLVM features; every x86-64 has the 128-bit ones."""
    return PackNarrow(lanes=16 if "avx512bw" in features else 8 if "avx2" in features else 4)


def _pack(vectors: Sequence[Expr], lanes: int) -> Expr:
    """uint8 x (4 * lanes), ordered as `_place` says; vectors beyond the last are copies."""
    a, b, c, d = (vectors[i % len(vectors)] for i in (0, 1, 2, 3))
    if len(vectors) == 3:
        d = c
    low, high = (tirx.call_llvm_pure_intrin(f"int16x{2 * lanes}", _SSDW[lanes], x, y) for x, y in ((a, b), (c, d)))
    return tirx.call_llvm_pure_intrin(f"uint8x{4 * lanes}", _USWB[lanes], low, high)


def _place(v: int, i: int, lanes: int) -> int:
    """Where packs leave value i of the v-th vector: they work in blocks of 128 bits, each with four values of every vector."""
    return i // 4 * 16 + v * 4 + i % 4


def _int32s(values: Sequence[int]) -> list[Expr]:
    return [tirx.const(v, "int32") for v in values]
