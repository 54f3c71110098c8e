"""The kernels of a CPU about which nothing is known but the width of its vectors."""

from __future__ import annotations

from dataclasses import dataclass

from tvm_rsq.targets.generic.conv2d import conv2d
from tvm_rsq.targets.generic.depthwise import depthwise
from tvm_rsq.targets.generic.elementwise_library import ElementwiseKernels
from tvm_rsq.targets.generic.steps import ConvStep, FloatStep, WidenStep
from tvm_rsq.targets.kernel import Kernel
from tvm_rsq.targets.numerics import RequantizeForm
from tvm_rsq.targets.workload import Conv2DWorkload


@dataclass(frozen=True, slots=True)
class GenericLibrary(ElementwiseKernels):
    """A `KernelLibrary`. vector_bytes and registers are the CPU's; integer_steps are tried in order, the first narrow enough is taken."""

    form: RequantizeForm
    vector_bytes: int
    registers: int
    integer_steps: tuple[ConvStep, ...] = (WidenStep(),)
    # Narrowest vector that each of integer_steps can be made, in lanes.
    narrowest: tuple[int, ...] = (1,)

    def conv2d(self, w: Conv2DWorkload) -> Kernel:
        if w.is_depthwise:
            return depthwise(w, self.form, vector_bytes=self.vector_bytes)
        if w.in_dtype == "float32":
            return conv2d(w, FloatStep(lanes=self.vector_bytes // 4, registers=self.registers, fused=self.form == "fma"), self.form)
        channels = w.out_channels // w.groups
        step = next(s for s, least in zip(self.integer_steps, self.narrowest, strict=True) if channels >= least)
        return conv2d(w, step, self.form)
