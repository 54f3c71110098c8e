"""Hypothesis strategies of the kernels that are no convolutions: method of a KernelLibrary -> workload, arguments, and the answer in numpy.

Answers are by the formulas of the workloads, in exact rational arithmetic.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import random_movement
from exact_reference import affine_rounded, fma32
from hypothesis import strategies as st
from random_draw import SCALES, Draw, Drawn

from tvm_rsq.targets import workloads_elementwise as elementwise
from tvm_rsq.targets.generic.binary import add_affine
from tvm_rsq.targets.generic.quantize import requantize_affine


def _one(scale: float) -> np.ndarray:
    return np.array([scale], "float32")


def _finished(total: np.ndarray, ratio: np.ndarray | float, zero_point: int, ends: dict[str, Any]) -> np.ndarray:
    if ends["out"] == "float32":
        return np.clip(fma32(total, ratio, 0), np.float32(ends["low"]), np.float32(ends["high"]))
    return affine_rounded(total, ratio, zero_point, ends["qmin"], ends["qmax"], "uint8")


def _quantize(d: Draw) -> Drawn:
    shape, zero_point, clips, scale = d.shape(), d.level(), d.clips(), _one(d.of(*SCALES))
    order = d.order(len(shape)) if d.flag() else None
    x = (d.rng.standard_normal(shape) * 90).astype("float32")
    x.flat[:3] = [0.5, 3e38, -3e38][: x.size]
    w = elementwise.QuantizeWorkload(shape=shape, permutation=order, zero_point=zero_point, **clips)
    moved = x if order is None else x.transpose(order)
    return Drawn(w, [], [x, scale], affine_rounded(moved, scale[0], zero_point, clips["qmin"], clips["qmax"], "uint8"))


def _dequantize(d: Draw) -> Drawn:
    shape, zero_point, scale = d.shape(), d.level(), _one(d.of(*SCALES))
    order, q = d.order(len(shape)) if d.flag() else None, d.values(shape)
    w = elementwise.DequantizeWorkload(shape=shape, permutation=order, zero_point=zero_point)
    real = fma32(q.astype("int32") - zero_point, scale[0], 0)
    return Drawn(w, [q], [scale], real if order is None else real.transpose(order))


def _requantize(d: Draw) -> Drawn:
    shape, clips = d.shape(), d.clips()
    q, affine = d.values(shape), requantize_affine(d.of(*SCALES), d.level(), d.of(*SCALES), d.level())
    moved = affine_rounded(fma32(q, *affine), 1, 0, clips["qmin"], clips["qmax"], "uint8")
    return Drawn(elementwise.RequantizeWorkload(shape=shape, **clips), [q], [affine], moved)


def _pair(d: Draw) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Two shapes that numpy broadcasts, either of which may have fewer axes."""
    shape = d.shape()
    other = tuple(1 if d.whole(0, 2) == 0 else extent for extent in shape)[d.whole(0, len(shape) - 1) if d.flag() else 0 :]
    return (shape, other) if d.flag() else (other, shape)


def _add(d: Draw) -> Drawn:
    shapes, ends = _pair(d), d.ends()
    left, right = (d.values(shape) for shape in shapes)
    onto = (0.7, d.level()) if ends["out"] == "uint8" else ()
    affine = add_affine(d.of(*SCALES), d.level(), d.of(*SCALES), d.level(), *onto, subtract=d.flag())
    total = fma32(left, affine[0], fma32(right, affine[1], affine[2]))
    w = elementwise.AddWorkload(left_shape=shapes[0], right_shape=shapes[1], **ends)
    return Drawn(w, [left, right], [affine], _finished(total, 1, 0, ends))


def _multiply(d: Draw) -> Drawn:
    shapes, ends, zeros, scale = _pair(d), d.ends(), (d.level(), d.level()), _one(d.of(0.0041, 1.5e-5, 900.0))
    left, right = (d.values(shape) for shape in shapes)
    zero_point = d.level() if ends["out"] == "uint8" else 0
    w = elementwise.MultiplyWorkload(
        left_shape=shapes[0], right_shape=shapes[1], left_zero_point=zeros[0], right_zero_point=zeros[1], zero_point=zero_point, **ends
    )
    made = (left.astype(int) - zeros[0]) * (right.astype(int) - zeros[1])
    return Drawn(w, [left, right], [scale], _finished(made, scale[0], zero_point, ends))


def _lookup(d: Draw) -> Drawn:
    shape, out = d.shape(), d.of("uint8", "float32")
    q, table, moves = d.values(shape), d.rng.permutation(256).astype(out), out == "uint8"
    w = elementwise.LookupWorkload(shape=shape, out=out)
    return Drawn(w, [q, table] if moves else [q], [] if moves else [table], table[q])


def _clamp(d: Draw) -> Drawn:
    shape, clips = d.shape(), d.clips()
    q = d.values(shape)
    return Drawn(elementwise.ClampWorkload(shape=shape, **clips), [q], [], np.clip(q, clips["qmin"], clips["qmax"]))


def _windows(d: Draw) -> tuple[dict[str, Any], Callable[..., np.ndarray]]:
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


def _max_pool2d(d: Draw) -> Drawn:
    geometry, taps = _windows(d)
    q = d.values(geometry["shape"])
    return Drawn(elementwise.MaxPoolWorkload(**geometry), [q], [], taps(q).max(0))


def _avg_pool2d(d: Draw) -> Drawn:
    (geometry, taps), ends, zero, include, scale = _windows(d), d.ends(), d.level(), d.flag(), _one(d.of(*SCALES))
    q, zero_point = d.values(geometry["shape"]), d.level() if ends["out"] == "uint8" else 0
    top, left, bottom, right = geometry["padding"]
    height, width = geometry["shape"][1:3]
    within = (height + top + bottom, width + left + right) if include else (height, width)
    count = taps(np.ones((1, *within, 1), "float32"), padded=include).sum(0)
    total = taps(q.astype(int) - zero).sum(0)
    ratio = np.broadcast_to(scale / np.maximum(count, np.float32(1)), total.shape)
    w = elementwise.AvgPoolWorkload(**geometry, count_include_pad=include, input_zero_point=zero, zero_point=zero_point, **ends)
    return Drawn(w, [q], [scale], _finished(total, ratio, zero_point, ends))


def _reduce(d: Draw) -> Drawn:
    shape, keepdims, kind = d.shape(2), d.flag(), d.of("sum", "mean", "max")
    axes = tuple(axis for axis in range(len(shape)) if d.flag()) or (d.whole(0, len(shape) - 1),)
    keepdims = keepdims or len(axes) == len(shape)
    q = d.values(shape)
    if kind == "max":
        w = elementwise.ReduceWorkload(shape=shape, axes=axes, keepdims=keepdims, kind=kind)
        return Drawn(w, [q], [], q.max(axes, keepdims=keepdims))
    ends, zero, scale = d.ends(), d.level(), _one(d.of(*SCALES))
    zero_point = d.level() if ends["out"] == "uint8" else 0
    w = elementwise.ReduceWorkload(
        shape=shape, axes=axes, keepdims=keepdims, kind=kind, input_zero_point=zero, zero_point=zero_point, **ends
    )  # fmt: skip
    ratio = scale[0] / np.float32(w.count) if kind == "mean" else scale[0]
    return Drawn(w, [q], [scale], _finished((q.astype(int) - zero).sum(axes, keepdims=keepdims), ratio, zero_point, ends))


_MADE: dict[str, Callable[[Draw], Drawn]] = {
    "quantize": _quantize, "dequantize": _dequantize, "requantize": _requantize, "add": _add, "multiply": _multiply, "lookup": _lookup,
    "clamp": _clamp, "max_pool2d": _max_pool2d, "avg_pool2d": _avg_pool2d, "reduce": _reduce, "concat": random_movement.concat,
    "permute": random_movement.permute, "pad": random_movement.pad, "strided_slice": random_movement.strided_slice,
    "resize_nearest": random_movement.resize_nearest,
}  # fmt: skip
KERNELS = tuple(_MADE)


@st.composite
def drawn(draw: st.DrawFn, kernel: str) -> Drawn:
    """An example of one of KERNELS."""
    return _MADE[kernel](Draw(draw))
