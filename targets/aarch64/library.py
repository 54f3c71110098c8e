"""The kernels of an aarch64 CPU: the generic ones over the best multiply-accumulate that its features offer."""

from __future__ import annotations

from dataclasses import dataclass

from tvm_rsq.targets.aarch64.code_lookup import code_lookup
from tvm_rsq.targets.aarch64.dot_step import DotStep
from tvm_rsq.targets.aarch64.mlal_step import mlal_steps
from tvm_rsq.targets.aarch64.mmla_step import MatrixStep
from tvm_rsq.targets.aarch64.narrow import SaturatingNarrow
from tvm_rsq.targets.aarch64.word_step import WordStep
from tvm_rsq.targets.generic.library import GenericLibrary
from tvm_rsq.targets.numerics import RequantizeForm


@dataclass(frozen=True, slots=True)
class Aarch64Library(GenericLibrary):
    """A `KernelLibrary`. Activations are signed bytes, which is what every multiplication of NEON's takes."""


def aarch64_library(features: frozenset[str], form: RequantizeForm) -> Aarch64Library:
    """For a CPU with these LLVM features."""
    *short, mlal = mlal_steps()
    dot = (DotStep(),) if "dotprod" in features else ()
    matrix = (MatrixStep(),) if "i8mm" in features else ()
    return Aarch64Library(
        form,
        vector_bytes=16,
        registers=32,
        integer_steps=(*matrix, *dot) or (mlal,),
        short_steps=() if dot else tuple(short),
        # No instruction of these has less than four channels.
        narrowest=4,
        word_step=WordStep(),
        # A dot product takes four times as many products at a time as a word, Winograd saves no more than that.
        winograd_untuned=not dot,
        narrow=SaturatingNarrow(),
        code_lookup=code_lookup(features),
        carrier="int8",
    )
