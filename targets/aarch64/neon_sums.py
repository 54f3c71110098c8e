"""What all multiply-accumulate steps of aarch64 have in common besides their instructions: what surrounds them, in instructions."""

from __future__ import annotations

import math

from tvm_rsq.targets.generic.steps import OneSum
from tvm_rsq.targets.workload import Conv2DWorkload

# Of one vector of sums: its start, conversion, and product with what it is requantized by.
_VECTOR = 4
# Of a pixel with so many vectors, beyond four the rest of them: narrowing, and stores.
_NARROW = {0: 0, 1: 4, 2: 4, 3: 9, 4: 6}
# Registers that a tile may take, which leaves some to the epilogue's constants; and the moves to the stack and back where it takes more.
_SPARE, _SPILLS = 29, 30
# Copying the taps of a pixel next to each other, as counted: of the pixel, of each row of the kernel, and of 16 values of it.
_GATHER, _GATHER_ROW, _GATHER_VECTOR = 24, 10, 2


class NeonSums(OneSum):
    """The part of a ConvStep that is the same for every multiplication of NEON's, which has 32 registers of 16 bytes."""

    __slots__ = ()
    load = 0.6
    prefetches = False

    def epilogue(self, pixels: int, vecs: int, registers: int) -> float:
        whole, rest = divmod(vecs, 4)
        narrowing = whole * _NARROW[4] + _NARROW[rest]
        return pixels * (vecs * _VECTOR + narrowing) + (_SPILLS if registers > _SPARE else 0)

    def gathers(self, w: Conv2DWorkload) -> bool:
        """Where rows of the kernel are far from whole steps, as with three channels: 3 rows of 9 values are 3 steps of 16, all 27 two."""
        depth, run = self.depth * self.parts, w.kernel[1] * w.in_channels
        if w.dilation[1] != 1 or w.kernel[0] == 1:
            return False
        fewer = w.kernel[0] * -(-run // depth) - -(-w.kernel[0] * run // depth)
        copied = _GATHER + w.kernel[0] * (_GATHER_ROW + _GATHER_VECTOR * math.ceil(run / 16))
        return fewer * self.work * w.out_channels / self.lanes > copied
