"""The part of a KernelLibrary that is no convolution: one method per operator, generic kernels unless a target has better ones."""

from __future__ import annotations

from typing import ClassVar

from tvm.tirx import PrimFunc

from tvm_rsq.targets.generic.binary import make_add, make_multiply
from tvm_rsq.targets.generic.concat import make_concat
from tvm_rsq.targets.generic.kernel_builder import CPU, KernelBuilder
from tvm_rsq.targets.generic.lookup import make_clamp, make_lookup
from tvm_rsq.targets.generic.movement import make_pad, make_permute, make_strided_slice
from tvm_rsq.targets.generic.narrow import Narrow
from tvm_rsq.targets.generic.pool import make_avg_pool2d, make_max_pool2d
from tvm_rsq.targets.generic.quantize import make_dequantize, make_quantize, make_requantize
from tvm_rsq.targets.generic.reduce import make_reduce
from tvm_rsq.targets.generic.resize import make_resize_nearest
from tvm_rsq.targets.generic.schedule import schedule_elementwise
from tvm_rsq.targets.kernel import Kernel
from tvm_rsq.targets.numerics import RequantizeForm
from tvm_rsq.targets.workloads_elementwise import (
    AddWorkload,
    AvgPoolWorkload,
    ClampWorkload,
    DequantizeWorkload,
    LookupWorkload,
    MaxPoolWorkload,
    MultiplyWorkload,
    QuantizeWorkload,
    ReduceWorkload,
    RequantizeWorkload,
)
from tvm_rsq.targets.workloads_movement import ConcatWorkload, PadWorkload, PermuteWorkload, ResizeNearestWorkload, StridedSliceWorkload


class ElementwiseKernels:
    """Arguments of each kernel: see the `make_` function behind the method."""

    __slots__ = ()
    build: ClassVar[KernelBuilder] = CPU
    graph: ClassVar[bool] = False
    form: RequantizeForm
    narrow: Narrow

    def schedule(self, prim_func: PrimFunc) -> PrimFunc:
        return schedule_elementwise(prim_func)

    def quantize(self, w: QuantizeWorkload) -> Kernel:
        return make_quantize(w, form=self.form, narrow=self.narrow, build=self.build)

    def dequantize(self, w: DequantizeWorkload) -> Kernel:
        return make_dequantize(w, build=self.build)

    def requantize(self, w: RequantizeWorkload) -> Kernel:
        return make_requantize(w, form=self.form, narrow=self.narrow, build=self.build)

    def add(self, w: AddWorkload) -> Kernel:
        return make_add(w, form=self.form, narrow=self.narrow, build=self.build)

    def multiply(self, w: MultiplyWorkload) -> Kernel:
        return make_multiply(w, form=self.form, narrow=self.narrow, build=self.build)

    def lookup(self, w: LookupWorkload) -> Kernel:
        return make_lookup(w, build=self.build)

    def clamp(self, w: ClampWorkload) -> Kernel:
        return make_clamp(w, build=self.build)

    def max_pool2d(self, w: MaxPoolWorkload) -> Kernel:
        return make_max_pool2d(w, build=self.build)

    def avg_pool2d(self, w: AvgPoolWorkload) -> Kernel:
        return make_avg_pool2d(w, form=self.form, build=self.build)

    def reduce(self, w: ReduceWorkload) -> Kernel:
        return make_reduce(w, form=self.form, build=self.build)

    def concat(self, w: ConcatWorkload) -> Kernel:
        return make_concat(w, form=self.form)

    def permute(self, w: PermuteWorkload) -> Kernel:
        return make_permute(w, build=self.build)

    def pad(self, w: PadWorkload) -> Kernel:
        return make_pad(w, build=self.build)

    def strided_slice(self, w: StridedSliceWorkload) -> Kernel:
        return make_strided_slice(w, build=self.build)

    def resize_nearest(self, w: ResizeNearestWorkload) -> Kernel:
        return make_resize_nearest(w, build=self.build)
