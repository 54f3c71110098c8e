"""The kernels of an x86-64 CPU: the generic ones, and its own, over the best multiply-accumulate that its features offer."""

from __future__ import annotations

from tvm_rsq.targets.levers import x86_levers
from tvm_rsq.targets.numerics import RequantizeForm
from tvm_rsq.targets.x86_64.kernels import X86Library
from tvm_rsq.targets.x86_64.lookup_shuffle import lookup_lanes
from tvm_rsq.targets.x86_64.packs import packs
from tvm_rsq.targets.x86_64.steps import madd_steps, maddubs_steps, vnni_step
from tvm_rsq.targets.x86_64.word_step import vnni_word_step


def x86_library(features: frozenset[str], form: RequantizeForm) -> X86Library:
    """For a CPU with these LLVM features."""
    wide = "avx512f" in features
    vnni, madd = vnni_step(features), madd_steps(features)
    word_step = vnni_word_step(features) or madd[0]
    return X86Library(
        form,
        vector_bytes=64 if wide else 32 if "avx2" in features else 16,
        registers=32 if wide else 16,
        integer_steps=(vnni,) if vnni else madd,
        short_steps=() if vnni else maddubs_steps(features),
        # No instruction of these comes narrower than 128 bits.
        narrowest=4,
        word_step=word_step,
        # Measured on pmaddwd only; next to vpdpbusd it gains less, and a tuner has to find out.
        winograd_untuned=vnni is None,
        narrow=packs(features),
        levers=x86_levers(features),
        integer_bytes=4 * word_step.lanes,
        table_lanes=lookup_lanes(features),
    )
