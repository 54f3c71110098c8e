"""Hypothesis strategies of the kernels that are no convolutions: method of a KernelLibrary -> workload, arguments, and the answer in numpy.

Answers are by the formulas of the workloads, in exact rational arithmetic, or by numpy's own indexing.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from exact_reference import affine_rounded, fma32, quantized
from hypothesis import strategies as st
from resize_reference import COORDINATE, ROUND, index_map

from tvm_rsq.targets import workloads_elementwise as elementwise
from tvm_rsq.targets import workloads_movement as movement
from tvm_rsq.targets.generic.binary import add_affine
from tvm_rsq.targets.generic.quantize import requantize_affine

_WIDTHS = (1, 2, 3, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 47, 64, 65)  # of the last axis, around what vectors hold
_SCALES = (0.0117, 0.5, 1.0, 3.3)


@dataclass(frozen=True, slots=True)
class Drawn:
    """levels: uint8 arguments, which a library gets in its carrier; rest: the others, behind them; expected: levels, or float32"""

    workload: Any
    levels: list[np.ndarray]
    rest: list[np.ndarray]
    expected: np.ndarray


class _Draw:
    """What one example is made of."""

    def __init__(self, draw: st.DrawFn) -> None:
        self.of = lambda *choices: draw(st.sampled_from(choices))
        self.whole = lambda low, high: draw(st.integers(low, high))
        self.flag = lambda: draw(st.booleans())
        self.order = lambda count: tuple(draw(st.permutations(range(count))))
        self.rng = np.random.default_rng(self.whole(0, 2**16))
        self.extreme = self.flag()

    def shape(self, low: int = 1, high: int = 4) -> tuple[int, ...]:
        return (*(self.whole(1, 5) for _ in range(self.whole(low, high) - 1)), self.of(*_WIDTHS))

    def image(self) -> tuple[int, ...]:
        return (self.whole(1, 2), self.whole(1, 9), self.whole(1, 9), self.of(*_WIDTHS))

    def level(self) -> int:
        return self.of(0, 3, 128, 255)

    def clips(self) -> dict[str, int]:
        return {"qmin": self.of(0, 0, 9), "qmax": self.of(255, 255, 180, 63)}

    def values(self, shape: tuple[int, ...]) -> np.ndarray:
        return quantized(self.rng, shape, extreme=self.extreme)

    def ends(self) -> dict[str, Any]:
        """How a kernel ends that requantizes, or leaves in float."""
        if self.flag():
            return {"out": "float32", "low": self.of(-math.inf, 0.0, -40.0), "high": self.of(math.inf, 6.0)}
        return {"out": "uint8", **self.clips()}


def _one(scale: float) -> np.ndarray:
    return np.array([scale], "float32")


def _finished(total: np.ndarray, ratio: np.ndarray | float, zero_point: int, ends: dict[str, Any]) -> np.ndarray:
    if ends["out"] == "float32":
        return np.clip(fma32(total, ratio, 0), np.float32(ends["low"]), np.float32(ends["high"]))
    return affine_rounded(total, ratio, zero_point, ends["qmin"], ends["qmax"], "uint8")


def _quantize(d: _Draw) -> Drawn:
    shape, zero_point, clips, scale = d.shape(), d.level(), d.clips(), _one(d.of(*_SCALES))
    order = d.order(len(shape)) if d.flag() else None
    x = (d.rng.standard_normal(shape) * 90).astype("float32")
    x.flat[:3] = [0.5, 3e38, -3e38][: x.size]
    w = elementwise.QuantizeWorkload(shape=shape, permutation=order, zero_point=zero_point, **clips)
    moved = x if order is None else x.transpose(order)
    return Drawn(w, [], [x, scale], affine_rounded(moved, scale[0], zero_point, clips["qmin"], clips["qmax"], "uint8"))


def _dequantize(d: _Draw) -> Drawn:
    shape, zero_point, scale = d.shape(), d.level(), _one(d.of(*_SCALES))
    order, q = d.order(len(shape)) if d.flag() else None, d.values(shape)
    w = elementwise.DequantizeWorkload(shape=shape, permutation=order, zero_point=zero_point)
    real = fma32(q.astype("int32") - zero_point, scale[0], 0)
    return Drawn(w, [q], [scale], real if order is None else real.transpose(order))


def _requantize(d: _Draw) -> Drawn:
    shape, clips = d.shape(), d.clips()
    q, affine = d.values(shape), requantize_affine(d.of(*_SCALES), d.level(), d.of(*_SCALES), d.level())
    moved = affine_rounded(fma32(q, *affine), 1, 0, clips["qmin"], clips["qmax"], "uint8")
    return Drawn(elementwise.RequantizeWorkload(shape=shape, **clips), [q], [affine], moved)


def _pair(d: _Draw) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Two shapes that numpy broadcasts, either of which may have fewer axes."""
    shape = d.shape()
    other = tuple(1 if d.whole(0, 2) == 0 else extent for extent in shape)[d.whole(0, len(shape) - 1) if d.flag() else 0 :]
    return (shape, other) if d.flag() else (other, shape)


def _add(d: _Draw) -> Drawn:
    shapes, ends = _pair(d), d.ends()
    left, right = (d.values(shape) for shape in shapes)
    onto = (0.7, d.level()) if ends["out"] == "uint8" else ()
    affine = add_affine(d.of(*_SCALES), d.level(), d.of(*_SCALES), d.level(), *onto, subtract=d.flag())
    total = fma32(left, affine[0], fma32(right, affine[1], affine[2]))
    w = elementwise.AddWorkload(left_shape=shapes[0], right_shape=shapes[1], **ends)
    return Drawn(w, [left, right], [affine], _finished(total, 1, 0, ends))


def _multiply(d: _Draw) -> Drawn:
    shapes, ends, zeros, scale = _pair(d), d.ends(), (d.level(), d.level()), _one(d.of(0.0041, 1.5e-5, 900.0))
    left, right = (d.values(shape) for shape in shapes)
    zero_point = d.level() if ends["out"] == "uint8" else 0
    w = elementwise.MultiplyWorkload(
        left_shape=shapes[0], right_shape=shapes[1], left_zero_point=zeros[0], right_zero_point=zeros[1], zero_point=zero_point, **ends
    )
    made = (left.astype(int) - zeros[0]) * (right.astype(int) - zeros[1])
    return Drawn(w, [left, right], [scale], _finished(made, scale[0], zero_point, ends))


def _lookup(d: _Draw) -> Drawn:
    shape, out = d.shape(), d.of("uint8", "float32")
    q, table, moves = d.values(shape), d.rng.permutation(256).astype(out), out == "uint8"
    w = elementwise.LookupWorkload(shape=shape, out=out)
    return Drawn(w, [q, table] if moves else [q], [] if moves else [table], table[q])


def _clamp(d: _Draw) -> Drawn:
    shape, clips = d.shape(), d.clips()
    q = d.values(shape)
    return Drawn(elementwise.ClampWorkload(shape=shape, **clips), [q], [], np.clip(q, clips["qmin"], clips["qmax"]))


def _windows(d: _Draw) -> tuple[dict[str, Any], Callable[..., np.ndarray]]:
    """A pooling's geometry, and the function that gives an image's taps, (K, N, OH, OW, C), with zeros where there is no image.

    padded: the image has the padding already
    """
    shape, axes = d.image(), []
    for extent in shape[1:3]:
        kernel, dilation, stride = d.whole(1, 4), d.whole(1, 2), d.whole(1, 3)
        before, after = d.whole(0, kernel - 1), d.whole(0, kernel - 1)
        left = max(extent + before + after - (kernel - 1) * dilation - 1, 0)
        axes.append((kernel, stride, dilation, before, after, left // stride + 1 + (left % stride > 0 and d.flag())))
    kernels, strides, dilations, befores, afters, outs = zip(*axes, strict=True)

    def taps(x: np.ndarray, padded: bool = False) -> np.ndarray:
        widths = [(0 if padded else before, 99) for before in befores]
        large = np.pad(x, [(0, 0), *widths, (0, 0)])
        begins = product(*(range(0, k * step, step) for k, step in zip(kernels, dilations, strict=True)))
        return np.stack([large[:, r:, c:][:, : outs[0] * strides[0] : strides[0], : outs[1] * strides[1] : strides[1]] for r, c in begins])

    edges = {"padding": (*befores, *afters), "out_size": outs}
    return {"shape": shape, "kernel": kernels, "stride": strides, "dilation": dilations, **edges}, taps


def _max_pool2d(d: _Draw) -> Drawn:
    geometry, taps = _windows(d)
    q = d.values(geometry["shape"])
    return Drawn(elementwise.MaxPoolWorkload(**geometry), [q], [], taps(q).max(0))


def _avg_pool2d(d: _Draw) -> Drawn:
    (geometry, taps), ends, zero, include, scale = _windows(d), d.ends(), d.level(), d.flag(), _one(d.of(*_SCALES))
    q, zero_point = d.values(geometry["shape"]), d.level() if ends["out"] == "uint8" else 0
    top, left, bottom, right = geometry["padding"]
    height, width = geometry["shape"][1:3]
    within = (height + top + bottom, width + left + right) if include else (height, width)
    count = taps(np.ones((1, *within, 1), "float32"), padded=include).sum(0)
    total = taps(q.astype(int) - zero).sum(0)
    ratio = np.broadcast_to(scale / np.maximum(count, np.float32(1)), total.shape)
    w = elementwise.AvgPoolWorkload(**geometry, count_include_pad=include, input_zero_point=zero, zero_point=zero_point, **ends)
    return Drawn(w, [q], [scale], _finished(total, ratio, zero_point, ends))


def _reduce(d: _Draw) -> Drawn:
    shape, keepdims, kind = d.shape(2), d.flag(), d.of("sum", "mean", "max")
    axes = tuple(axis for axis in range(len(shape)) if d.flag()) or (d.whole(0, len(shape) - 1),)
    keepdims = keepdims or len(axes) == len(shape)
    q = d.values(shape)
    if kind == "max":
        w = elementwise.ReduceWorkload(shape=shape, axes=axes, keepdims=keepdims, kind=kind)
        return Drawn(w, [q], [], q.max(axes, keepdims=keepdims))
    ends, zero, scale = d.ends(), d.level(), _one(d.of(*_SCALES))
    zero_point = d.level() if ends["out"] == "uint8" else 0
    w = elementwise.ReduceWorkload(
        shape=shape, axes=axes, keepdims=keepdims, kind=kind, input_zero_point=zero, zero_point=zero_point, **ends
    )  # fmt: skip
    ratio = scale[0] / np.float32(w.count) if kind == "mean" else scale[0]
    return Drawn(w, [q], [scale], _finished((q.astype(int) - zero).sum(axes, keepdims=keepdims), ratio, zero_point, ends))


def _concat(d: _Draw) -> Drawn:
    shape, clips = d.shape(), d.clips()
    axis = d.whole(0, len(shape) - 1)
    extents = [d.of(*_WIDTHS) if axis == len(shape) - 1 else d.whole(1, 4) for _ in range(d.whole(1, 4))]
    parts = [d.values((*shape[:axis], extent, *shape[axis + 1 :])) for extent in extents]
    changed = tuple(d.flag() for _ in parts)
    affine = np.stack([requantize_affine(d.of(*_SCALES), d.level(), 0.6, d.level()) for _ in parts])
    moved = [
        affine_rounded(fma32(q, *row), 1, 0, clips["qmin"], clips["qmax"], "uint8") if change else q
        for q, row, change in zip(parts, affine, changed, strict=True)
    ]
    w = movement.ConcatWorkload(shapes=tuple(q.shape for q in parts), axis=axis, requantized=changed, **clips)
    return Drawn(w, parts, [affine], np.concatenate(moved, axis))


def _permute(d: _Draw) -> Drawn:
    shape = d.shape(2, 5)
    q, order = d.values(shape), d.order(len(shape))
    return Drawn(movement.PermuteWorkload(shape=shape, permutation=order), [q], [], q.transpose(order))


def _pad(d: _Draw) -> Drawn:
    shape, value = d.shape(), d.level()
    before, after = (tuple(d.of(0, 0, 1, 3) for _ in shape) for _ in range(2))
    q = d.values(shape)
    wide = np.pad(q, list(zip(before, after, strict=True)), constant_values=value)
    return Drawn(movement.PadWorkload(shape=shape, before=before, after=after, value=value), [q], [], wide)


def _strided_slice(d: _Draw) -> Drawn:
    shape = d.shape()
    begin, strides = tuple(d.whole(0, extent - 1) for extent in shape), tuple(d.of(1, 1, 2, 3, -1, -2) for _ in shape)
    reach = [(extent - 1 - b) // s + 1 if s > 0 else b // -s + 1 for extent, b, s in zip(shape, begin, strides, strict=True)]
    out = tuple(d.whole(1, most) for most in reach)
    q = d.values(shape)
    rows = [b + s * np.arange(count) for b, s, count in zip(begin, strides, out, strict=True)]
    return Drawn(movement.StridedSliceWorkload(shape=shape, begin=begin, strides=strides, out_shape=out), [q], [], q[np.ix_(*rows)])


def _resize_nearest(d: _Draw) -> Drawn:
    shape, out, how, rounding = d.image(), (d.whole(1, 19), d.whole(1, 19)), d.of(*COORDINATE), d.of(*ROUND)
    q = d.values(shape)
    rows, columns = (index_map(extent, count, how, rounding) for extent, count in zip(shape[1:3], out, strict=True))
    w = movement.ResizeNearestWorkload(shape=shape, out_size=out, coordinates=how, rounding=rounding)
    return Drawn(w, [q], [], q[:, rows][:, :, columns])


_MADE: dict[str, Callable[[_Draw], Drawn]] = {
    "quantize": _quantize, "dequantize": _dequantize, "requantize": _requantize, "add": _add, "multiply": _multiply, "lookup": _lookup,
    "clamp": _clamp, "max_pool2d": _max_pool2d, "avg_pool2d": _avg_pool2d, "reduce": _reduce, "concat": _concat, "permute": _permute,
    "pad": _pad, "strided_slice": _strided_slice, "resize_nearest": _resize_nearest,
}  # fmt: skip
KERNELS = tuple(_MADE)


@st.composite
def drawn(draw: st.DrawFn, kernel: str) -> Drawn:
    """An example of one of KERNELS."""
    return _MADE[kernel](_Draw(draw))
