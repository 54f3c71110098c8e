"""What an x86-64 CPU does better than the generic kernels."""

from __future__ import annotations

from dataclasses import dataclass

from tvm_rsq.targets.choice import Choice
from tvm_rsq.targets.generic.depthwise import DepthwiseTile
from tvm_rsq.targets.generic.library import GenericLibrary
from tvm_rsq.targets.kernel import Kernel
from tvm_rsq.targets.workload import Conv2DWorkload
from tvm_rsq.targets.workloads_elementwise import LookupWorkload
from tvm_rsq.targets.x86_64.depthwise_choices import depthwise_choices
from tvm_rsq.targets.x86_64.depthwise_pairs import depthwise_pairs
from tvm_rsq.targets.x86_64.lookup_shuffle import make_lookup_shuffle


@dataclass(frozen=True, slots=True)
class X86Library(GenericLibrary):
    """A `KernelLibrary`. integer_bytes: the widest vector with int16 arithmetic, 16, 32 or 64 bytes; table_lanes: `lookup_lanes`."""

    integer_bytes: int = 16
    table_lanes: int = 0

    def conv2d(self, w: Conv2DWorkload, choice: Choice | None = None) -> Kernel:
        pairs = depthwise_choices(w, self.integer_bytes)
        if choice is None and pairs:
            choice = pairs[0]
        if isinstance(choice, DepthwiseTile) and choice.method == "pairs" and pairs:
            return depthwise_pairs(w, self.form, choice, self.word_step)
        return GenericLibrary.conv2d(self, w, choice)

    def conv2d_space(self, w: Conv2DWorkload) -> tuple[Choice, ...]:
        return depthwise_choices(w, self.integer_bytes) + GenericLibrary.conv2d_space(self, w)

    def lookup(self, w: LookupWorkload) -> Kernel:
        return make_lookup_shuffle(w, self.table_lanes)
