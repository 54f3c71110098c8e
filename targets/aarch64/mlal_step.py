"""smull, smlal and sadalp: int8 x int8 summed up in int16 first, for CPUs without a dot product.

Sixteen values of a run of one channel are one register of weights. Its lower half times the pixel's gives eight products (smull), the upper
half's are added (smlal2): 2 * 128 * 127 < 2^15. One sadalp adds neighbours into four int32, partial sums of the one channel, and three addp
at the end make one register of those of four channels. Where weights promise that more products fit int16 (`accumulate16`), `parts` times
sixteen values come between two sadalp.

    products an instruction    1 part 16 / 3,   2 parts 32 / 5,   4 parts 64 / 9
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tvm import tirx
from tvm.ir import Expr
from tvm.script.ir_builder import tirx as T

from tvm_rsq.targets.aarch64.depthwise_taps import SUMMED
from tvm_rsq.targets.aarch64.neon_sums import NeonSums
from tvm_rsq.targets.generic.steps import Pixel
from tvm_rsq.targets.generic.wrapping import wrapping_sum
from tvm_rsq.targets.workload import Conv2DWorkload


@dataclass(frozen=True, slots=True)
class MlalStep(NeonSums):
    """`parts` times two products a lane in int16. 4 lanes, of channels."""

    parts: int = 1
    lanes: int = 4
    registers: int = 28  # of 32: LLVM loads ahead, and what it finds no register for goes to the stack
    name: str = "smlal"
    depth: int = 16
    data: str = "int8"
    weight: str = "int8"
    acc: str = "int32"
    scratch: int = 2
    latency: int = 4
    sums = 4
    wide = 4
    paired = 2  # ldp
    shares = False
    keeps = True
    load = 1  # in instructions

    def fits(self, w: Conv2DWorkload) -> bool:
        """Whether the weights of `w` promise so many products. Those of one part need no promise, and are not asked."""
        return w.accumulate16 in SUMMED and self.depth * self.parts <= w.accumulate16 and w.in_channels // w.groups > 1

    @property
    def held(self) -> int:
        """A pixel's values of all parts: they wait for four channels' weights."""
        return self.parts

    @property
    def run(self) -> int:
        """Two steps an iteration where registers are left: its loop and addresses are a tenth of it."""
        return 2 if self.parts == 1 else 1

    @property
    def work(self) -> float:
        return 4 * (2 * self.parts + 1)

    def operands(self, pixels: Sequence[Pixel], offset: Expr, count: int, lanes: int) -> list[list[Expr]]:
        ((data, index),) = pixels
        starts = [index + offset + i * self.depth for i in range(count * self.parts)]
        loaded = [T.bind(data.vload([start], "int8x16")) for start in starts]
        return [loaded[u * self.parts : (u + 1) * self.parts] for u in range(count)]

    def begin(self, start: Expr, lanes: int) -> list[Expr]:
        return [tirx.const(0, "int32x4")] * self.sums

    def add(self, sums: Sequence[Expr], pixels: Sequence[Expr], weights: Sequence[Expr], lanes: int) -> list[Expr]:
        made = []
        for channel, acc in enumerate(sums):
            each = [_part(w, 16 * channel, 16) for w in weights]
            products = [_products(w, p, half) for w, p in zip(each, pixels, strict=True) for half in (0, 8)]
            pairs = tirx.call_llvm_pure_intrin("int32x4", "llvm.aarch64.neon.saddlp.v4i32.v8i16", sum(products[1:], products[0]))
            made.append(wrapping_sum(acc, pairs))
        return made

    def finish(self, sums: Sequence[Expr], start: Expr, lanes: int) -> list[Expr]:
        low, high = (_pairwise(*sums[i : i + 2]) for i in (0, 2))
        return [wrapping_sum(_pairwise(low, high), start)]


def mlal_steps() -> tuple[MlalStep, ...]:
    """With every number of parts, the most first."""
    return tuple(MlalStep(parts=n, name=f"smlal{16 * n}") for n in (4, 2, 1))


def _products(weights: Expr, pixels: Expr, half: int) -> Expr:
    return tirx.call_llvm_pure_intrin("int16x8", "llvm.aarch64.neon.smull.v8i16", _part(weights, half, 8), _part(pixels, half, 8))


def _pairwise(a: Expr, b: Expr) -> Expr:
    return tirx.call_llvm_pure_intrin("int32x4", "llvm.aarch64.neon.addp.v4i32", a, b)


def _part(value: Expr, first: int, size: int) -> Expr:
    return tirx.Shuffle([value], [tirx.const(i, "int32") for i in range(first, first + size)])
