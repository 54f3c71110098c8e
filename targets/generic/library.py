"""The kernels of a CPU about which nothing is known but the width of its vectors."""

from __future__ import annotations

from dataclasses import dataclass

from tvm_rsq.targets.choice import Choice
from tvm_rsq.targets.generic.conv2d import conv2d
from tvm_rsq.targets.generic.conv_space import default_tile, direct_choices
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
    """A `KernelLibrary`. vector_bytes and registers are the CPU's.

    integer_steps are what it multiplies with, the best first, none narrower than `narrowest` lanes; short_steps add up in int16 first,
    which a workload's accumulate16 has to allow, the one with the most parts first. Fewer channels than `narrowest` are widened.
    """

    form: RequantizeForm
    vector_bytes: int
    registers: int
    integer_steps: tuple[ConvStep, ...] = (WidenStep(),)
    short_steps: tuple[ConvStep, ...] = ()
    narrowest: int = 1
    levers: Levers = Levers()

    def conv2d(self, w: Conv2DWorkload, choice: Choice | None = None) -> Kernel:
        if w.is_depthwise:
            _fits(w, choice, DepthwiseTile)
            return depthwise(w, self.form, vector_bytes=self.vector_bytes, tile=choice)
        _fits(w, choice, Tile)
        steps = self._steps(w)
        choice = choice or default_tile(w, steps)
        step = next((s for s in steps if s.name == choice.step), None)
        if step is None:
            names = ", ".join(s.name for s in steps)
            raise ValueError(f"step is {choice.step!r}, expected one of {names} for {w}; take one of conv2d_space")
        return conv2d(w, step, self.form, choice)

    def conv2d_space(self, w: Conv2DWorkload) -> tuple[Choice, ...]:
        if w.is_depthwise:
            return (default_depthwise_tile(w, self.vector_bytes),)
        return direct_choices(w, self._steps(w))

    def _steps(self, w: Conv2DWorkload) -> tuple[ConvStep, ...]:
        """The steps that `w` can be made of, the best first."""
        if w.in_dtype == "float32":
            return (FloatStep(lanes=self.vector_bytes // 4, registers=self.registers, fused=self.form == "fma"),)
        if w.out_channels // w.groups < self.narrowest:
            return (WidenStep(),)
        channels = w.in_channels // w.groups
        # Blocks of a promise for more products are whole numbers of blocks of one for fewer.
        short = (s for s in self.short_steps if s.parts <= w.accumulate16 and channels % (s.parts * s.depth) == 0)
        return (*short, *self.integer_steps)


def _fits(w: Conv2DWorkload, choice: Choice | None, kind: type) -> None:
    if choice is not None and not isinstance(choice, kind):
        raise ValueError(f"choice {choice} does not fit {w}, expected a {kind.__name__}; take one of conv2d_space")
