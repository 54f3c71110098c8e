"""x86 multiply-accumulate instructions: vpdpbusd (VNNI) and pmaddwd."""

from __future__ import annotations

from dataclasses import dataclass

from tvm import tirx
from tvm.ir import Expr

from tvm_rsq.targets.generic.steps import vector


@dataclass(frozen=True, slots=True)
class VnniStep:
    """vpdpbusd: four uint8 x int8 products a lane, summed into int32 without saturation. 4, 8 or 16 lanes."""

    lanes: int
    registers: int
    name: str
    depth: int = 4
    data: str = "uint8"
    weight: str = "int8"
    acc: str = "int32"

    def broadcast(self, data: Expr, index: Expr, lanes: int) -> Expr:
        quad = tirx.reinterpret("int32", data.vload([index], "uint8x4"))
        # LLVM 22 types both operands as bytes.
        return tirx.reinterpret(vector("int8", 4 * lanes), tirx.Broadcast(quad, lanes))

    def apply(self, acc: Expr, pixel: Expr, weights: Expr, lanes: int) -> Expr:
        return tirx.call_llvm_pure_intrin(vector("int32", lanes), f"llvm.x86.avx512.vpdpbusd.{32 * lanes}", acc, pixel, weights)


def vnni_step(features: frozenset[str]) -> VnniStep | None:
    """The widest VNNI of a CPU with these LLVM features; None without. 4 and 8 lanes need AVX512VL or AVX-VNNI."""
    if {"avx512vnni", "avx512vl"} <= features:
        return VnniStep(lanes=16, registers=32, name="vnni512")
    return VnniStep(lanes=8, registers=16, name="vnni256") if "avxvnni" in features else None


_MADD = {4: "llvm.x86.sse2.pmadd.wd", 8: "llvm.x86.avx2.pmadd.wd", 16: "llvm.x86.avx512.pmaddw.d.512"}


@dataclass(frozen=True, slots=True)
class MaddStep:
    """pmaddwd on values widened to int16 beforehand: two products a lane, each below 2^15, summed exactly into int32. 4, 8 or 16 lanes."""

    lanes: int
    registers: int
    name: str
    depth: int = 2
    data: str = "int16"
    weight: str = "int16"
    acc: str = "int32"

    def broadcast(self, data: Expr, index: Expr, lanes: int) -> Expr:
        pair = tirx.reinterpret("int32", data.vload([index], "int16x2"))
        return tirx.reinterpret(vector("int16", 2 * lanes), tirx.Broadcast(pair, lanes))

    def apply(self, acc: Expr, pixel: Expr, weights: Expr, lanes: int) -> Expr:
        return acc + tirx.call_llvm_pure_intrin(vector("int32", lanes), _MADD[lanes], pixel, weights)


def madd_step(features: frozenset[str]) -> MaddStep:
    """The widest pmaddwd of a CPU with these LLVM features; every x86-64 has the 128-bit one."""
    if {"avx512bw", "avx512vl"} <= features:
        return MaddStep(lanes=16, registers=32, name="madd512")
    return MaddStep(lanes=8, registers=16, name="madd256") if "avx2" in features else MaddStep(lanes=4, registers=16, name="madd128")
