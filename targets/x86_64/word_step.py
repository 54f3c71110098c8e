"""vpdpwssd: two int16 products a lane, summed into int32 by one instruction, where pmaddwd needs an addition besides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tvm import tirx
from tvm.ir import Expr

from tvm_rsq.targets.generic.steps import OneSum, vector


@dataclass(frozen=True, slots=True)
class VnniWordStep(OneSum):
    """vpdpwssd on int16, without saturation. 4, 8 or 16 lanes."""

    lanes: int
    registers: int
    name: str
    depth: int = 2
    parts: int = 1
    data: str = "int16"
    weight: str = "int16"
    acc: str = "int32"
    scratch: int = 1
    work: float = 1
    latency: int = 10

    def broadcast(self, data: Expr, index: Expr, lanes: int) -> Expr:
        pair = tirx.reinterpret("int32", data.vload([index], "int16x2"))
        return tirx.reinterpret(vector("int16", 2 * lanes), tirx.Broadcast(pair, lanes))

    def apply(self, acc: Expr, pixels: Sequence[Expr], weights: Sequence[Expr], lanes: int) -> Expr:
        return tirx.call_llvm_pure_intrin(vector("int32", lanes), f"llvm.x86.avx512.vpdpwssd.{32 * lanes}", acc, pixels[0], weights[0])


def vnni_word_step(features: frozenset[str]) -> VnniWordStep | None:
    """The widest of a CPU with these LLVM features; None without. 4 and 8 lanes need AVX512VL or AVX-VNNI."""
    if {"avx512vnni", "avx512vl"} <= features:
        return VnniWordStep(lanes=16, registers=32, name="vnni_word512")
    return VnniWordStep(lanes=8, registers=16, name="vnni_word256") if "avxvnni" in features else None
