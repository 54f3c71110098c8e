"""int16 x int16 into int32 on any CPU: the multiply-accumulate of Winograd's transformed inputs and weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tvm.ir import Expr

from tvm_rsq.targets.generic.steps import OneSum, spread, vector
from tvm_rsq.targets.generic.wrapping import wrapping_sum


@dataclass(frozen=True, slots=True)
class WidenWordStep(OneSum):
    """Both widened to int32 before they are multiplied: exact on everything that LLVM knows."""

    lanes: int = 8
    registers: int = 16
    name: str = "widen_word"
    depth: int = 1
    parts: int = 1
    data: str = "int16"
    weight: str = "int16"
    acc: str = "int32"
    scratch: int = 3
    work: float = 2
    latency: int = 4

    def broadcast(self, data: Expr, index: Expr, lanes: int) -> Expr:
        return spread(data[index].astype("int32"), lanes)

    def apply(self, acc: Expr, pixels: Sequence[Expr], weights: Sequence[Expr], lanes: int) -> Expr:
        return wrapping_sum(acc, pixels[0] * weights[0].astype(vector("int32", lanes)))
