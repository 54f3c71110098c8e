"""The kernels of a CPU about which nothing is known but the width of its vectors."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeVar

from tvm_rsq.targets.carrier import Carrier
from tvm_rsq.targets.choice import Choice
from tvm_rsq.targets.code_rows import CodeRows
from tvm_rsq.targets.generic.choice_checks import check_choice
from tvm_rsq.targets.generic.code_lookup import CodeLookup, GatherLookup
from tvm_rsq.targets.generic.coded_space import coded_choices
from tvm_rsq.targets.generic.conv2d import conv2d
from tvm_rsq.targets.generic.conv_space import default_choice, direct_choices, winograd_tiles
from tvm_rsq.targets.generic.depthwise import DepthwiseTile, default_depthwise_tile, depthwise
from tvm_rsq.targets.generic.elementwise_library import ElementwiseKernels
from tvm_rsq.targets.generic.expand_codes import make_expand
from tvm_rsq.targets.generic.expand_slots import make_expand_slots
from tvm_rsq.targets.generic.joined_groups import LEAST_CHANNELS, join_weight, joined_groups
from tvm_rsq.targets.generic.narrow import CLIP, Narrow
from tvm_rsq.targets.generic.steps import ConvStep, FloatStep, ShortStep, WidenStep
from tvm_rsq.targets.generic.tiles import Tile
from tvm_rsq.targets.generic.winograd import winograd
from tvm_rsq.targets.generic.winograd_tile import WinogradTile
from tvm_rsq.targets.kernel import Kernel
from tvm_rsq.targets.levers import Levers
from tvm_rsq.targets.numerics import RequantizeForm
from tvm_rsq.targets.workload import Conv2DWorkload, ExpandWorkload

Kind = TypeVar("Kind", Tile, DepthwiseTile)


@dataclass(frozen=True, slots=True)
class GenericLibrary(ElementwiseKernels):
    """A `KernelLibrary`. vector_bytes and registers are the CPU's.

    integer_steps are what it multiplies with, the best first, none narrower than `narrowest` lanes; short_steps add up in int16 first,
    which a workload's accumulate16 has to allow, the one with the most parts first. Too few channels for a vector are widened one at a
    time, or make wider groups together.
    word_step, int16 x int16, is for Winograd; winograd_untuned says that it may be taken without having been measured.
    """

    form: RequantizeForm
    vector_bytes: int
    registers: int
    integer_steps: tuple[ConvStep, ...] = (WidenStep(),)
    short_steps: tuple[ShortStep, ...] = ()
    narrowest: int = 1
    word_step: ConvStep | None = None
    winograd_untuned: bool = False
    narrow: Narrow = CLIP
    code_lookup: CodeLookup = GatherLookup()
    carrier: Carrier = "uint8"
    levers: Levers = Levers()

    def conv2d(self, w: Conv2DWorkload, choice: Choice | None = None) -> Kernel:
        if w.in_dtype not in (self.carrier, "float32"):
            raise ValueError(f"in_dtype is {w.in_dtype}, expected {self.carrier} or float32: what this library's kernels multiply")
        if w.code_bits:
            return self._coded(w, choice or self.conv2d_space(w)[0])
        if isinstance(choice, Tile) and choice.codes != "load":
            raise ValueError(f"choice {choice} looks codes up, and the weights of {w} are none; take one of conv2d_space")
        if w.is_depthwise:
            tile = None if choice is None else _fitting(w, choice, DepthwiseTile)
            return depthwise(w, self.form, vector_bytes=self.vector_bytes, narrow=self.narrow, tile=tile)
        if joined := joined_groups(w):
            kernel, count = self.conv2d(joined, choice), w.groups // joined.groups
            return replace(kernel, pack_weight=lambda weight: kernel.pack_weight(join_weight(weight, w.groups, count)))
        steps, word_step = self._steps(w), self._word_step(w)
        choice = choice or default_choice(w, steps, word_step if self.winograd_untuned else None)
        if isinstance(choice, WinogradTile) and word_step is not None:
            self._wide_enough(choice)
            return winograd(w, word_step, self.form, choice, self.narrow)
        direct = _fitting(w, choice, Tile)
        return conv2d(w, self._step(w, direct), self.form, direct, self.narrow)

    def _step(self, w: Conv2DWorkload, choice: Tile) -> ConvStep:
        """That the choice names.   ValueError: it is none of the workload's, or the choice is too narrow for it"""
        steps = self._steps(w)
        step = next((s for s in steps if s.name == choice.step), None)
        if step is None:
            names = ", ".join(s.name for s in steps)
            raise ValueError(f"step is {choice.step!r}, expected one of {names} for {w}; take one of conv2d_space")
        if step in (*self.short_steps, *self.integer_steps):
            self._wide_enough(choice)
        return step

    def _coded(self, w: Conv2DWorkload, choice: Choice) -> Kernel:
        """The kernel of a workload whose weights are codes: of codes, or the plain one with a note that they are to be expanded."""
        if isinstance(choice, WinogradTile):  # its weights are sums of many, which no codes are for
            return self.conv2d(replace(w, code_bits=0), choice)
        if isinstance(choice, (Tile, DepthwiseTile)):
            check_choice(choice)
        if not isinstance(choice, Tile) or choice.codes == "load":
            return replace(self.conv2d(replace(w, code_bits=0), choice), expanded=w.code_bits)
        if joined := joined_groups(w):
            kernel, count = self._coded(joined, choice), w.groups // joined.groups
            return replace(kernel, pack_weight=lambda weight: kernel.pack_weight(join_weight(weight, w.groups, count)))
        return conv2d(w, self._step(w, choice), self.form, choice, self.narrow, self.code_lookup)

    def _looks_up_quickly(self, w: Conv2DWorkload, tile: Tile) -> bool:
        return self.code_lookup.is_quick(CodeRows(w.code_bits).entries, tile.lanes * self._step(w, tile).depth)

    def expand(self, w: ExpandWorkload) -> Kernel:
        return make_expand_slots(w) if w.books > 1 or w.dtype == "float32" else make_expand(w, self.code_lookup)

    def conv2d_space(self, w: Conv2DWorkload) -> tuple[Choice, ...]:
        if w.code_bits:
            plain = self.conv2d_space(replace(w, code_bits=0))
            return coded_choices(w, plain, lambda tile: self._looks_up_quickly(joined_groups(w) or w, tile))
        if w.is_depthwise:
            return (default_depthwise_tile(w, self.vector_bytes),)
        if joined := joined_groups(w):
            return self.conv2d_space(joined)
        steps, word_step = self._steps(w), self._word_step(w)
        untuned = default_choice(w, steps, word_step if self.winograd_untuned else None)
        return tuple(dict.fromkeys([untuned, *winograd_tiles(w, word_step), *direct_choices(w, steps)]))

    def _wide_enough(self, choice: Tile | WinogradTile) -> None:
        check_choice(choice)
        if choice.lanes < self.narrowest:
            raise ValueError(f"choice {choice} has {choice.lanes} lanes, expected at least {self.narrowest}; take one of conv2d_space")

    def _word_step(self, w: Conv2DWorkload) -> ConvStep | None:
        """What Winograd may be made of for `w`, if anything."""
        return self.word_step if w.out_channels >= self.narrowest else None

    def _steps(self, w: Conv2DWorkload) -> tuple[ConvStep, ...]:
        """The steps that `w` can be made of, the best first."""
        if w.in_dtype == "float32":
            return (FloatStep(lanes=self.vector_bytes // 4, registers=self.registers, fused=self.form == "fma"),)
        if w.out_channels // w.groups < max(self.narrowest, LEAST_CHANNELS):
            # One channel at a time: LLVM vectorises over the run instead.
            return (WidenStep(lanes=1, data=self.carrier),)
        short = (step for step in self.short_steps if step.fits(w))
        pixels = w.batch * w.out_height * w.out_width
        return (*short, *(step for step in self.integer_steps if step.rows <= pixels))


def _fitting(w: Conv2DWorkload, choice: Choice, kind: type[Kind]) -> Kind:
    if not isinstance(choice, kind):
        raise ValueError(f"choice {choice} does not fit {w}, expected a {kind.__name__}; take one of conv2d_space")
    return choice
