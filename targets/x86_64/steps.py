"""x86 multiply-accumulate instructions: vpdpbusd (VNNI), pmaddubsw where the weights promise that it cannot saturate, and pmaddwd."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tvm import tirx
from tvm.ir import Expr

from tvm_rsq.targets.generic.steps import OneSum, vector
from tvm_rsq.targets.generic.wrapping import wrapping_sum
from tvm_rsq.targets.workload import Conv2DWorkload

SUMMED = (1, 2, 4)  # what accumulate16 may be for pmaddubsw
_MADD = {4: "llvm.x86.sse2.pmadd.wd", 8: "llvm.x86.avx2.pmadd.wd", 16: "llvm.x86.avx512.pmaddw.d.512"}
_MADDUBS = {4: "llvm.x86.ssse3.pmadd.ub.sw.128", 8: "llvm.x86.avx2.pmadd.ub.sw", 16: "llvm.x86.avx512.pmaddubs.w.512"}


@dataclass(frozen=True, slots=True)
class VnniStep(OneSum):
    """vpdpbusd: four uint8 x int8 products a lane, summed into int32 without saturation. 4, 8 or 16 lanes."""

    lanes: int
    registers: int
    name: str
    depth: int = 4
    parts: int = 1
    data: str = "uint8"
    weight: str = "int8"
    acc: str = "int32"
    scratch: int = 1
    work: float = 1
    latency: int = 10

    def broadcast(self, data: Expr, index: Expr, lanes: int) -> Expr:
        return _quad(data, index, lanes)

    def apply(self, acc: Expr, pixels: Sequence[Expr], weights: Sequence[Expr], lanes: int) -> Expr:
        return tirx.call_llvm_pure_intrin(vector("int32", lanes), f"llvm.x86.avx512.vpdpbusd.{32 * lanes}", acc, pixels[0], weights[0])


@dataclass(frozen=True, slots=True)
class MaddubsStep(OneSum):
    """`parts` pmaddubsw added up in int16, which the workload's `accumulate16` promises to fit, then widened. 4, 8 or 16 lanes."""

    lanes: int
    registers: int
    name: str
    parts: int
    depth: int = 4
    data: str = "uint8"
    weight: str = "int8"
    acc: str = "int32"
    latency: int = 2

    def fits(self, w: Conv2DWorkload) -> bool:
        """Whether the weights of `w` promise so many products: blocks of more are whole numbers of blocks of fewer."""
        return w.accumulate16 in SUMMED and self.parts <= w.accumulate16 and w.in_channels // w.groups % (self.parts * self.depth) == 0

    @property
    def scratch(self) -> int:
        """The ones, a pixel, and sums in flight."""
        return 5 if self.parts > 2 else 4

    @property
    def work(self) -> float:
        return self.parts + 1

    def broadcast(self, data: Expr, index: Expr, lanes: int) -> Expr:
        return _quad(data, index, lanes)

    def apply(self, acc: Expr, pixels: Sequence[Expr], weights: Sequence[Expr], lanes: int) -> Expr:
        dtype = vector("int16", 2 * lanes)
        sums = [tirx.call_llvm_pure_intrin(dtype, _MADDUBS[lanes], p, v) for p, v in zip(pixels, weights, strict=True)]
        ones = tirx.Broadcast(tirx.const(1, "int16"), 2 * lanes)
        return wrapping_sum(acc, tirx.call_llvm_pure_intrin(vector("int32", lanes), _MADD[lanes], sum(sums[1:], sums[0]), ones))


@dataclass(frozen=True, slots=True)
class MaddStep(OneSum):
    """pmaddwd on int16: two products a lane, each below 2^15, summed exactly into int32. 4, 8 or 16 lanes.

    The input is staged as int16. The weights are int16, or int8 that the kernel widens as it reads them: half the memory to stream.
    """

    lanes: int
    registers: int
    name: str
    weight: str = "int16"
    depth: int = 2
    parts: int = 1
    data: str = "int16"
    acc: str = "int32"
    scratch: int = 3
    work: float = 1
    latency: int = 2

    def broadcast(self, data: Expr, index: Expr, lanes: int) -> Expr:
        pair = tirx.reinterpret("int32", data.vload([index], "int16x2"))
        return tirx.reinterpret(vector("int16", 2 * lanes), tirx.Broadcast(pair, lanes))

    def apply(self, acc: Expr, pixels: Sequence[Expr], weights: Sequence[Expr], lanes: int) -> Expr:
        wide = weights[0].astype(vector("int16", 2 * lanes))
        return wrapping_sum(acc, tirx.call_llvm_pure_intrin(vector("int32", lanes), _MADD[lanes], pixels[0], wide))


def vnni_step(features: frozenset[str]) -> VnniStep | None:
    """The widest VNNI of a CPU with these LLVM features; None without. 4 and 8 lanes need AVX512VL or AVX-VNNI."""
    if {"avx512vnni", "avx512vl"} <= features:
        return VnniStep(lanes=16, registers=32, name="vnni512")
    return VnniStep(lanes=8, registers=16, name="vnni256") if "avxvnni" in features else None


def madd_steps(features: frozenset[str]) -> tuple[MaddStep, ...]:
    """The widest pmaddwd of a CPU with these LLVM features, the usual step first; every x86-64 has the 128-bit one."""
    lanes, registers = _widest(features)
    name = f"madd{32 * lanes}"
    return (
        MaddStep(lanes=lanes, registers=registers, name=name),
        MaddStep(lanes=lanes, registers=registers, name=f"{name}_int8", weight="int8", scratch=4),
    )


def maddubs_steps(features: frozenset[str]) -> tuple[MaddubsStep, ...]:
    """The widest pmaddubsw with every number of parts, the most first; none without SSSE3."""
    lanes, registers = _widest(features)
    if "ssse3" not in features:
        return ()
    return tuple(MaddubsStep(lanes=lanes, registers=registers, name=f"maddubs{32 * lanes}x{n}", parts=n) for n in (4, 2, 1))


def _widest(features: frozenset[str]) -> tuple[int, int]:
    """Lanes of the widest integer vector, and how many of them the CPU holds."""
    if {"avx512bw", "avx512vl"} <= features:
        return 16, 32
    return (8, 16) if "avx2" in features else (4, 16)


def _quad(data: Expr, index: Expr, lanes: int) -> Expr:
    """Four bytes in every lane, typed as LLVM 22 wants them."""
    quad = tirx.reinterpret("int32", data.vload([index], "uint8x4"))
    return tirx.reinterpret(vector("int8", 4 * lanes), tirx.Broadcast(quad, lanes))
