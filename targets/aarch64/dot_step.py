"""sdot: four int8 x int8 products a lane, the pixel by element: one load of 16 bytes serves four steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tvm import tirx
from tvm.ir import Expr
from tvm.script.ir_builder import tirx as T

from tvm_rsq.targets.aarch64.neon_sums import NeonSums
from tvm_rsq.targets.aarch64.splat import splat
from tvm_rsq.targets.generic.steps import Pixel, vector


@dataclass(frozen=True, slots=True)
class DotStep(NeonSums):
    """sdot, summed into int32 without saturation. 4 lanes."""

    lanes: int = 4
    registers: int = 32
    name: str = "sdot"
    depth: int = 4
    parts: int = 1
    data: str = "int8"
    weight: str = "int8"
    acc: str = "int32"
    scratch: int = 1
    work: float = 1
    latency: int = 8
    run = 4
    held = 1
    keeps = True

    def operands(self, pixels: Sequence[Pixel], offset: Expr, count: int, lanes: int) -> list[list[Expr]]:
        ((data, index),) = pixels
        quads = T.bind(tirx.reinterpret(vector("int32", count), data.vload([index + offset], f"int8x{4 * count}")))
        return [[_splat(quads, u, count)] for u in range(count)]

    def broadcast(self, data: Expr, index: Expr, lanes: int) -> Expr:
        return self.operands([(data, index)], tirx.const(0, "int32"), 1, lanes)[0][0]

    def apply(self, acc: Expr, pixels: Sequence[Expr], weights: Sequence[Expr], lanes: int) -> Expr:
        return tirx.call_llvm_pure_intrin("int32x4", "llvm.aarch64.neon.sdot.v4i32.v16i8", acc, weights[0], pixels[0])


def _splat(quads: Expr, index: int, count: int) -> Expr:
    """int8x16: the index-th four bytes in every lane."""
    return tirx.reinterpret("int8x16", splat(quads, index, count))
