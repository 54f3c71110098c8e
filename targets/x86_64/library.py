"""The kernels of an x86-64 CPU: the generic ones, and its own, over the best multiply-accumulate that its features offer."""

from __future__ import annotations

from dataclasses import dataclass

from tvm_rsq.targets.choice import Choice
from tvm_rsq.targets.generic.depthwise import DepthwiseTile, Method
from tvm_rsq.targets.generic.library import GenericLibrary
from tvm_rsq.targets.generic.steps import ConvStep
from tvm_rsq.targets.kernel import Kernel
from tvm_rsq.targets.levers import x86_levers
from tvm_rsq.targets.numerics import RequantizeForm
from tvm_rsq.targets.workload import Conv2DWorkload
from tvm_rsq.targets.workloads_elementwise import LookupWorkload
from tvm_rsq.targets.x86_64.code_lookup import code_lookup
from tvm_rsq.targets.x86_64.depthwise_choices import depthwise_choices, is_grouped
from tvm_rsq.targets.x86_64.depthwise_groups import depthwise_groups
from tvm_rsq.targets.x86_64.lookup_shuffle import lookup_lanes, make_lookup_shuffle
from tvm_rsq.targets.x86_64.packs import packs
from tvm_rsq.targets.x86_64.steps import madd_steps, maddubs_steps, vnni_step
from tvm_rsq.targets.x86_64.word_step import vnni_word_step


@dataclass(frozen=True, slots=True)
class X86Library(GenericLibrary):
    """A `KernelLibrary`.

    integer_bytes  the widest vector with int16 arithmetic: 16, 32 or 64 bytes;  table_lanes  see `lookup_lanes`
    has_vnni       whether the first of integer_steps is vpdpbusd, and the word step vpdpwssd
    """

    integer_bytes: int = 16
    has_vnni: bool = False
    table_lanes: int = 0

    def conv2d(self, w: Conv2DWorkload, choice: Choice | None = None) -> Kernel:
        if is_grouped(w) and not w.code_bits:
            choice = choice or self._depthwise_choices(w)[0]
            if isinstance(choice, DepthwiseTile) and (step := self._group_steps.get(choice.method)):
                return depthwise_groups(w, self.form, choice, step)
        return GenericLibrary.conv2d(self, w, choice)

    def conv2d_space(self, w: Conv2DWorkload) -> tuple[Choice, ...]:
        own = () if w.code_bits else self._depthwise_choices(w)
        return own + GenericLibrary.conv2d_space(self, w)

    def _depthwise_choices(self, w: Conv2DWorkload) -> tuple[DepthwiseTile, ...]:
        # Without VNNI the sum is an instruction of its own.
        instructions: dict[Method, int] = {method: 1 if self.has_vnni else 2 for method in self._group_steps}
        return depthwise_choices(w, self.integer_bytes, instructions)

    @property
    def _group_steps(self) -> dict[Method, ConvStep]:
        """What multiplies groups of rows: four at a time where the CPU can, which was faster on every layer that was measured."""
        found: dict[Method, ConvStep] = {"quads": self.integer_steps[0]} if self.has_vnni else {}
        return found if self.word_step is None else {**found, "pairs": self.word_step}

    def lookup(self, w: LookupWorkload) -> Kernel:
        return make_lookup_shuffle(w, self.table_lanes)


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
        code_lookup=code_lookup(features),
        levers=x86_levers(features),
        integer_bytes=4 * word_step.lanes,
        has_vnni=vnni is not None,
        table_lanes=lookup_lanes(features),
    )
