"""KernelLibrary: the kernels that a target offers, and which library fits a set of instruction sets."""

from __future__ import annotations

from typing import Protocol

from tvm.tirx import PrimFunc

from tvm_rsq.targets.aarch64.library import aarch64_library
from tvm_rsq.targets.carrier import Carrier
from tvm_rsq.targets.choice import Choice
from tvm_rsq.targets.kernel import Kernel
from tvm_rsq.targets.levers import Levers
from tvm_rsq.targets.numerics import RequantizeForm
from tvm_rsq.targets.workload import Conv2DWorkload, ExpandWorkload
from tvm_rsq.targets.workloads_elementwise import (
    AddWorkload,
    AvgPoolWorkload,
    ClampWorkload,
    LookupWorkload,
    MaxPoolWorkload,
    MultiplyWorkload,
    QuantizeWorkload,
    ReduceWorkload,
)
from tvm_rsq.targets.workloads_movement import ConcatWorkload, PadWorkload, PermuteWorkload, ResizeNearestWorkload, StridedSliceWorkload
from tvm_rsq.targets.x86_64.library import x86_library


class KernelLibrary(Protocol):
    """Makes kernels for activations that are stored as `carrier`. The order of a kernel's arguments is part of this protocol; the lowering
    relies on it and on nothing else.

    graph  whether kernels are to be started together, as one graph
    """

    @property
    def form(self) -> RequantizeForm: ...
    @property
    def levers(self) -> Levers: ...
    @property
    def carrier(self) -> Carrier: ...
    @property
    def graph(self) -> bool: ...

    def conv2d(self, w: Conv2DWorkload, choice: Choice | None = None) -> Kernel:
        """Convolution, depthwise and grouped convolution, and dense, made as `choice` says; None is the untuned choice.

        carrier:  (data, packed_weight, [table int8,] bias int32 (OC,), multiplier (n,), [residual (N, OH, OW, OC),
                   [residual_affine (2,),]] output), n = OC if per_channel else 1. The multiplier is float32, int32 for "shift",
                   int32 (2, n) for "fixed_point"; residual_affine has its dtype and is left out where the residual is shared (see
                   Epilogue). The table is there where the kernel takes codes (Kernel.codes).
        float32:  (data, packed_weight, bias float32 (OC,), [residual float32,] output)
        ValueError: a choice that does not fit the workload.
        """
        ...

    def conv2d_space(self, w: Conv2DWorkload) -> tuple[Choice, ...]:
        """Every choice worth measuring for `w`, the untuned one first. All of them compute the same integers."""
        ...

    def schedule(self, prim_func: PrimFunc) -> PrimFunc:
        """A function of unknown origin, such as an operator that stays in float, with loops as the device wants them."""
        ...

    def expand(self, w: ExpandWorkload) -> Kernel:
        """Weights out of codes, when a library is loaded: (codes uint8, table, weight), or (codes, table, of_slot, weight) where values
        depend on slots, see ExpandWorkload and make_expand_slots; pack_weight takes the codes.
        """
        ...

    # The others: arguments as the `make_` function behind the method of ElementwiseKernels says.
    def quantize(self, w: QuantizeWorkload) -> Kernel: ...
    def add(self, w: AddWorkload) -> Kernel: ...
    def multiply(self, w: MultiplyWorkload) -> Kernel: ...
    def lookup(self, w: LookupWorkload) -> Kernel: ...
    def clamp(self, w: ClampWorkload) -> Kernel: ...
    def max_pool2d(self, w: MaxPoolWorkload) -> Kernel: ...
    def avg_pool2d(self, w: AvgPoolWorkload) -> Kernel: ...
    def reduce(self, w: ReduceWorkload) -> Kernel: ...
    def concat(self, w: ConcatWorkload) -> Kernel: ...
    def permute(self, w: PermuteWorkload) -> Kernel: ...
    def pad(self, w: PadWorkload) -> Kernel: ...
    def strided_slice(self, w: StridedSliceWorkload) -> Kernel: ...
    def resize_nearest(self, w: ResizeNearestWorkload) -> Kernel: ...


def kernel_library(arch: str, features: frozenset[str], form: RequantizeForm) -> KernelLibrary:
    """The best library for a CPU of `arch` ("x86_64", "aarch64") with these LLVM features."""
    if arch == "x86_64":
        return x86_library(features, form)
    return aarch64_library(features, form)
