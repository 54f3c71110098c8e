"""smlal on int16, the pixel by element: the multiply-accumulate of Winograd's transformed inputs and weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tvm import tirx
from tvm.ir import Expr
from tvm.script.ir_builder import tirx as T

from tvm_rsq.targets.aarch64.neon_sums import NeonSums
from tvm_rsq.targets.aarch64.splat import splat
from tvm_rsq.targets.generic.steps import Pixel, vector
from tvm_rsq.targets.generic.wrapping import wrapping_sum


@dataclass(frozen=True, slots=True)
class WordStep(NeonSums):
    """One int16 x int16 product a lane, summed into int32. 4 lanes; one load of 16 bytes serves eight steps."""

    lanes: int = 4
    registers: int = 32
    name: str = "smlal_word"
    depth: int = 1
    parts: int = 1
    data: str = "int16"
    weight: str = "int16"
    acc: str = "int32"
    scratch: int = 1
    work: float = 1
    latency: int = 4
    run = 8
    held = 1

    def operands(self, pixels: Sequence[Pixel], offset: Expr, count: int, lanes: int) -> list[list[Expr]]:
        ((data, index),) = pixels
        words = T.bind(data.vload([index + offset], vector("int16", count)))
        return [[splat(words, u, count)] for u in range(count)]

    def broadcast(self, data: Expr, index: Expr, lanes: int) -> Expr:
        return self.operands([(data, index)], tirx.const(0, "int32"), 1, lanes)[0][0]

    def apply(self, acc: Expr, pixels: Sequence[Expr], weights: Sequence[Expr], lanes: int) -> Expr:
        return wrapping_sum(acc, tirx.call_llvm_pure_intrin("int32x4", "llvm.aarch64.neon.smull.v4i32", weights[0], pixels[0]))
