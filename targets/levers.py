"""Levers: what a layer may give up in accuracy, on a target, to be computed faster there."""

from __future__ import annotations

from dataclasses import dataclass

from tvm_rsq.targets.workload import Accumulate16


@dataclass(frozen=True, slots=True, kw_only=True)
class Levers:
    """What is worth measuring on a target. Whether it pays is decided layer by layer, from measured time and divergence.

    shift            effective multipliers that are powers of two (`Epilogue.requantize` "shift")
    shared_residual  one scale for both sides of a residual sum (`Epilogue.shared_residual`)
    accumulate16     values of `Conv2DWorkload.accumulate16` beyond 0 that the kernels know how to use, ascending
    """

    shift: bool = True
    shared_residual: bool = True
    accumulate16: tuple[Accumulate16, ...] = ()


def aarch64_levers(features: frozenset[str]) -> Levers:
    """For an aarch64 CPU with these LLVM features: where a dot product sums in 32 bits, nothing is won in 16."""
    return Levers(accumulate16=() if "dotprod" in features else (32, 64))


def x86_levers(features: frozenset[str]) -> Levers:
    """For an x86-64 CPU with these LLVM features: where a dot product sums in 32 bits at full speed, nothing is won in 16."""
    dot_product = features & {"avx512vnni", "avxvnni"}
    return Levers(accumulate16=(1, 2, 4) if "ssse3" in features and not dot_product else ())
