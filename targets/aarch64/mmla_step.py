"""smmla (i8mm): two pixels times two channels, eight int8 x int8 products each, by one instruction.

    an accumulator    p0 c0, p0 c1, p1 c0, p1 c1       two of them hold two pixels by four channels
    pixels            p0 k0 ... k7, p1 k0 ... k7       weights    c0 k0 ... k7, c1 k0 ... k7
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tvm import tirx
from tvm.ir import Expr
from tvm.script.ir_builder import tirx as T

from tvm_rsq.targets.aarch64.neon_sums import NeonSums
from tvm_rsq.targets.generic.steps import Pixel

_SMMLA = "llvm.aarch64.neon.smmla.v4i32.v16i8"


@dataclass(frozen=True, slots=True)
class MatrixStep(NeonSums):
    """smmla, summed into int32 without saturation. 4 lanes, two pixels at a time."""

    lanes: int = 4
    registers: int = 32
    name: str = "smmla"
    depth: int = 8
    parts: int = 1
    data: str = "int8"
    weight: str = "int8"
    acc: str = "int32"
    scratch: int = 1
    work: float = 1
    latency: int = 8
    rows = 2
    sums = 2
    run = 2
    held = 1
    wide = 2
    paired = 2  # ldp
    shares = False  # two loads and two zips for two pixels and two steps
    load = 1  # in instructions

    def operands(self, pixels: Sequence[Pixel], offset: Expr, count: int, lanes: int) -> list[list[Expr]]:
        dtype = "int64" if count == 1 else f"int64x{count}"
        both = [T.bind(tirx.reinterpret(dtype, data.vload([index + offset], f"int8x{8 * count}"))) for data, index in pixels]
        order = [[u, count + u] for u in range(count)]
        return [[tirx.reinterpret("int8x16", _shuffled(both, pair))] for pair in order]

    def begin(self, start: Expr, lanes: int) -> list[Expr]:
        return [_shuffled([start], order) for order in ([0, 1, 0, 1], [2, 3, 2, 3])]

    def add(self, sums: Sequence[Expr], pixels: Sequence[Expr], weights: Sequence[Expr], lanes: int) -> list[Expr]:
        pairs = [_shuffled([weights[0]], range(first, first + 16)) for first in (0, 16)]
        return [tirx.call_llvm_pure_intrin("int32x4", _SMMLA, acc, pixels[0], pair) for acc, pair in zip(sums, pairs, strict=True)]

    def finish(self, sums: Sequence[Expr], start: Expr, lanes: int) -> list[Expr]:
        return [_shuffled(sums, order) for order in ([0, 1, 4, 5], [2, 3, 6, 7])]


def _shuffled(vectors: Sequence[Expr], order: Sequence[int]) -> Expr:
    return tirx.Shuffle(list(vectors), [tirx.const(i, "int32") for i in order])
