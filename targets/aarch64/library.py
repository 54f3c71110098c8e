"""The kernels of an aarch64 CPU: the generic ones over the best multiply-accumulate that its features offer."""

from __future__ import annotations

from dataclasses import dataclass

from tvm_rsq.targets.aarch64.code_lookup import code_lookup
from tvm_rsq.targets.aarch64.depthwise_choices import depthwise_choices, is_own
from tvm_rsq.targets.aarch64.depthwise_quads import depthwise_quads
from tvm_rsq.targets.aarch64.depthwise_taps import depthwise_taps
from tvm_rsq.targets.aarch64.dot_step import DotStep
from tvm_rsq.targets.aarch64.lookup_table import make_lookup_table
from tvm_rsq.targets.aarch64.mlal_step import mlal_steps
from tvm_rsq.targets.aarch64.mmla_step import MatrixStep
from tvm_rsq.targets.aarch64.narrow import SaturatingNarrow
from tvm_rsq.targets.aarch64.word_step import WordStep
from tvm_rsq.targets.choice import Choice
from tvm_rsq.targets.generic.depthwise import DepthwiseTile
from tvm_rsq.targets.generic.library import GenericLibrary
from tvm_rsq.targets.generic.steps import WidenStep
from tvm_rsq.targets.kernel import Kernel
from tvm_rsq.targets.levers import aarch64_levers
from tvm_rsq.targets.numerics import RequantizeForm
from tvm_rsq.targets.workload import Conv2DWorkload
from tvm_rsq.targets.workloads_elementwise import LookupWorkload


@dataclass(frozen=True, slots=True)
class Aarch64Library(GenericLibrary):
    """A `KernelLibrary`. Activations are signed bytes, which is what every multiplication of NEON's takes.

    has_dot  whether the CPU has sdot
    """

    has_dot: bool = False

    def conv2d(self, w: Conv2DWorkload, choice: Choice | None = None) -> Kernel:
        if is_own(w) and not w.code_bits:
            choice = choice or self._depthwise_choices(w)[0]
            if isinstance(choice, DepthwiseTile) and choice.method == "taps":
                return depthwise_taps(w, self.form, self.narrow, choice)
            if isinstance(choice, DepthwiseTile) and choice.method == "quads" and self.has_dot:
                return depthwise_quads(w, self.form, self.narrow, choice)
        return GenericLibrary.conv2d(self, w, choice)

    def conv2d_space(self, w: Conv2DWorkload) -> tuple[Choice, ...]:
        own = self._depthwise_choices(w) if is_own(w) and not w.code_bits else ()
        return own + GenericLibrary.conv2d_space(self, w)

    def lookup(self, w: LookupWorkload) -> Kernel:
        return make_lookup_table(w)

    def _depthwise_choices(self, w: Conv2DWorkload) -> tuple[DepthwiseTile, ...]:
        return depthwise_choices(w, dot=self.has_dot)


def aarch64_library(features: frozenset[str], form: RequantizeForm) -> GenericLibrary:
    """For a CPU with these LLVM features."""
    if "neon" not in features:
        return GenericLibrary(form, vector_bytes=16, registers=32, integer_steps=(WidenStep(data="int8"),), carrier="int8")
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
        levers=aarch64_levers(features),
        has_dot=bool(dot),
    )
