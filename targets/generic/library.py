"""The kernels of a CPU about which nothing is known but the width of its vectors."""

from __future__ import annotations

from dataclasses import dataclass

from tvm_rsq.targets.choice import Choice
from tvm_rsq.targets.generic.conv2d import conv2d, default_tile
from tvm_rsq.targets.generic.depthwise import DepthwiseTile, default_depthwise_tile, depthwise
from tvm_rsq.targets.generic.elementwise_library import ElementwiseKernels
from tvm_rsq.targets.generic.steps import ConvStep, FloatStep, WidenStep
from tvm_rsq.targets.generic.tiles import Tile
from tvm_rsq.targets.kernel import Kernel
from tvm_rsq.targets.levers import Levers
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
    levers: Levers = Levers()

    def conv2d(self, w: Conv2DWorkload, choice: Choice | None = None) -> Kernel:
        if w.is_depthwise:
            _fits(w, choice, DepthwiseTile)
            return depthwise(w, self.form, vector_bytes=self.vector_bytes, tile=choice)
        _fits(w, choice, Tile)
        return conv2d(w, self._step(w), self.form, choice)

    def conv2d_space(self, w: Conv2DWorkload) -> tuple[Choice, ...]:
        if w.is_depthwise:
            return (default_depthwise_tile(w, self.vector_bytes),)
        return (default_tile(w, self._step(w)),)

    def _step(self, w: Conv2DWorkload) -> ConvStep:
        if w.in_dtype == "float32":
            return FloatStep(lanes=self.vector_bytes // 4, registers=self.registers, fused=self.form == "fma")
        channels = w.out_channels // w.groups
        return next(s for s, least in zip(self.integer_steps, self.narrowest, strict=True) if channels >= least)


def _fits(w: Conv2DWorkload, choice: Choice | None, kind: type) -> None:
    if choice is not None and not isinstance(choice, kind):
        raise ValueError(f"choice {choice} does not fit {w}, expected a {kind.__name__}; take one of conv2d_space")
