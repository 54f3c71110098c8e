"""What all multiply-accumulate steps of aarch64 have in common besides their instructions: what surrounds them, in instructions."""

from __future__ import annotations

from tvm_rsq.targets.generic.steps import OneSum

# Of one vector of sums: its start, conversion, and product with what it is requantized by.
_VECTOR = 4
# Of a pixel with so many vectors, beyond four the rest of them: narrowing, and stores.
_NARROW = {0: 0, 1: 4, 2: 4, 3: 9, 4: 6}
# Registers that are left to the epilogue's constants; and the moves to the stack and back where there are fewer.
_SPARE, _SPILLS = 28, 30


class NeonSums(OneSum):
    """The part of a ConvStep that is the same for every multiplication of NEON's, which has 32 registers of 16 bytes."""

    __slots__ = ()
    load = 0.6
    prefetches = False

    def epilogue(self, pixels: int, vecs: int, registers: int) -> float:
        whole, rest = divmod(vecs, 4)
        narrowing = whole * _NARROW[4] + _NARROW[rest]
        return pixels * (vecs * _VECTOR + narrowing) + (_SPILLS if registers > _SPARE else 0)
