"""What one core can do at most: multiply-accumulates a second of its own instructions, from loops that do nothing else.

Every step of the target's library runs in a loop of the shape that its convolutions have,

    for s:  acc[x, v] += pixel[s, x] * weights[s, v]        cols x vecs accumulators in registers, operands in the first-level cache

but without rows, edges and epilogue. No single form of it is the best on every core (a naive one reads four fifths of what a convolution
then reaches), so several are tried, and the fastest counts. A new step of a library needs nothing here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import tvm
from tvm.ir import IRModule
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T
from tvm.tirx import PrimFunc

from tvm_rsq.errors import TargetError
from tvm_rsq.targets.generic.library import GenericLibrary
from tvm_rsq.targets.generic.steps import ConvStep, vector
from tvm_rsq.targets.spec import TargetSpec, host_supports

# Steps of one pass over the operands: a multiple of every unrolling, and little enough for the first-level cache.
_STEPS = 32
_UNROLLS = (1, 2)
# cols x vecs: one pixel for many vectors, many for one, and what lies between; fewer accumulators than 6 wait for each other on any core.
_TILES = ((1, 6), (1, 12), (10, 1), (12, 1), (4, 2), (6, 2), (3, 2), (3, 3), (12, 2), (8, 3), (6, 4))
_ROUNDS, _ROUND_S = 5, 0.002


@dataclass(frozen=True, slots=True, kw_only=True)
class Peak:
    """The most that one core was seen to do.

    name   of the step
    form   of the loop that did it: "6x2 unrolled 4"
    gmacs  1e9 multiply-accumulates a second
    exact  whether the step is exact for any int8 weights; the others need weights that promise something (`accumulate16`)
    """

    name: str
    form: str
    gmacs: float
    exact: bool


@dataclass(frozen=True, slots=True)
class _Form:
    step: ConvStep
    cols: int
    vecs: int
    unroll: int

    @property
    def macs(self) -> int:
        """Of one pass over the operands."""
        return _STEPS * self.cols * self.vecs * self.step.lanes * self.step.depth * self.step.parts


def measure_peaks(spec: TargetSpec) -> tuple[Peak, ...]:
    """The peak of every integer step of the target's library, the fastest first. Takes a few seconds of one core.

    TargetError: this machine cannot run the target's code, or it is no CPU's.
    """
    if lacking := host_supports(spec):
        raise TargetError(
            f"{spec.name} needs {', '.join(lacking[:4])}, which this machine lacks; measure its peak on a machine that has it"
        )
    if not isinstance(spec.library, GenericLibrary):
        raise TargetError(f"the peak of {spec.name} is not measured here: that is done for CPUs; use the maker's figure")
    short, exact = spec.library.short_steps, spec.library.integer_steps
    forms = [form for step in (*exact, *short) for form in _forms(step)]
    best: dict[str, Peak] = {}
    for form, gmacs in zip(forms, _speeds(forms, spec), strict=True):
        name = form.step.name
        if name not in best or gmacs > best[name].gmacs:
            text = f"{form.cols}x{form.vecs} unrolled {form.unroll}"
            best[name] = Peak(name=name, form=text, gmacs=gmacs, exact=form.step in exact)
    return tuple(sorted(best.values(), key=lambda peak: -peak.gmacs))


def measure_peak(spec: TargetSpec, *, exact: bool = False) -> Peak:
    """The fastest of `measure_peaks`, or the fastest of those that are exact for any weights.   TargetError as there."""
    return next(peak for peak in measure_peaks(spec) if peak.exact or not exact)


def _forms(step: ConvStep) -> Iterator[_Form]:
    """Those whose accumulators fit the registers; operands may come from memory, and so need not."""
    for cols, vecs in _TILES:
        if cols % step.rows == 0 and _accumulators(step, cols, vecs) <= step.registers - step.scratch:
            yield from (_Form(step, cols, vecs, unroll) for unroll in _UNROLLS)


def _speeds(forms: Sequence[_Form], spec: TargetSpec) -> list[float]:
    """1e9 multiply-accumulates a second of each, best of several rounds in turns."""
    target = spec.tvm_target()
    functions = {f"form{i}": _loop(form).with_attr("global_symbol", f"form{i}") for i, form in enumerate(forms)}
    with target, tvm.transform.PassContext(opt_level=3):
        built = tvm.compile(IRModule(functions), target=target)
    calls = [_call(built[name], form) for name, form in zip(functions, forms, strict=True)]
    passes = [_passes(call) for call in calls]
    fastest = [float("inf")] * len(forms)
    for _ in range(_ROUNDS):
        for i, call in enumerate(calls):
            fastest[i] = min(fastest[i], _seconds(call, passes[i]) / passes[i])
    return [form.macs / seconds / 1e9 for form, seconds in zip(forms, fastest, strict=True)]


def _call(function: Callable[..., None], form: _Form) -> Callable[[int], None]:
    """Passes -> None, on operands of its own."""
    rng = np.random.default_rng(0)
    arrays = [
        rng.integers(0, 100, size).astype(dtype)
        for size, dtype in ((_data_size(form), form.step.data), (_weight_size(form), form.step.weight), (_out_size(form), form.step.acc))
    ]
    tensors = [tvm.runtime.tensor(array) for array in arrays]
    return lambda passes: function(passes, *tensors)


def _passes(call: Callable[[int], None]) -> int:
    """As many as take about _ROUND_S."""
    passes = 16
    while (seconds := _seconds(call, passes)) < _ROUND_S / 4:
        passes *= 4
    return max(1, int(passes * _ROUND_S / seconds))


def _seconds(call: Callable[[int], None], passes: int) -> float:
    begun = time.perf_counter()
    call(passes)
    return time.perf_counter() - begun


def _data_size(form: _Form) -> int:
    return _STEPS * form.cols * form.step.parts * form.step.depth


def _weight_size(form: _Form) -> int:
    return _STEPS * form.vecs * form.step.parts * form.step.lanes * form.step.depth


def _out_size(form: _Form) -> int:
    return _accumulators(form.step, form.cols, form.vecs) * form.step.lanes


def _accumulators(step: ConvStep, cols: int, vecs: int) -> int:
    return cols // step.rows * vecs * step.sums


def _loop(form: _Form) -> PrimFunc:
    """(passes, data, weights, out): the accumulators after `passes` times all steps."""
    step, lanes, vecs = form.step, form.step.lanes, form.vecs
    part, count = lanes * step.depth, _accumulators(form.step, form.cols, form.vecs)
    with IRBuilder() as builder:
        with T.prim_func(s_tir=True):
            T.func_attr({"tirx.noalias": True, "tirx.is_scheduled": True, "global_symbol": "main"})
            passes = T.arg("passes", T.int32())
            data = T.arg("data", T.buffer((_data_size(form),), step.data))
            weight = T.arg("weight", T.buffer((_weight_size(form),), step.weight))
            out = T.arg("out", T.buffer((_out_size(form),), step.acc))
            acc = T.alloc_buffer((_out_size(form),), step.acc, scope="local")
            for i in range(count):
                T.buffer_store(acc, out.vload([i * lanes], vector(step.acc, lanes)), [_lanes(i, lanes)])
            with T.serial(passes), T.serial(_STEPS // form.unroll) as outer:
                for u in range(form.unroll):
                    s = outer * form.unroll + u
                    at = s * vecs * step.parts * part
                    weights = [weight.vload([at + i * part], vector(step.weight, part)) for i in range(vecs * step.parts)]
                    for x in range(form.cols // step.rows):
                        firsts = [(s * form.cols + x * step.rows + row) * step.parts * step.depth for row in range(step.rows)]
                        (pixels,) = step.operands([(data, first) for first in firsts], 0, 1, lanes)
                        for v in range(vecs):
                            own = range((x * vecs + v) * step.sums, (x * vecs + v + 1) * step.sums)
                            old = [acc.vload([i * lanes], vector(step.acc, lanes)) for i in own]
                            new = step.add(old, pixels, weights[v * step.parts : (v + 1) * step.parts], lanes)
                            for i, value in zip(own, new, strict=True):
                                T.buffer_store(acc, value, [_lanes(i, lanes)])
            for i in range(count):
                T.buffer_store(out, acc.vload([i * lanes], vector(step.acc, lanes)), [_lanes(i, lanes)])
    return builder.get()


def _lanes(position: int, lanes: int) -> object:
    """Where the position-th vector is."""
    return tvm.tirx.Ramp(position * lanes, 1, lanes) if lanes > 1 else position
