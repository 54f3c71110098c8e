"""Lower sums, products, means and concatenations of quantized tensors to kernels that requantize once."""

from __future__ import annotations

from dataclasses import replace
from typing import TypedDict

import numpy as np

from tvm_rsq.passes.island_view import Affine, IslandView, LoweredCall, nhwc, pair, sides, static_attr
from tvm_rsq.targets.carrier import Carrier
from tvm_rsq.targets.generic.binary import add_affine
from tvm_rsq.targets.generic.quantize import requantize_affine
from tvm_rsq.targets.kernel import Kernel
from tvm_rsq.targets.kernel_library import KernelLibrary
from tvm_rsq.targets.workloads_elementwise import AddWorkload, AvgPoolWorkload, MultiplyWorkload, OutType, ReduceWorkload
from tvm_rsq.targets.workloads_movement import ConcatWorkload

_REAL = Affine(1.0, 0)


def lower_sum(island: IslandView, library: KernelLibrary) -> LoweredCall:
    """left + right or left - right, with the clamp behind it."""
    node = island.ops[0]
    left, right = node.operands
    a, b, out = island.affine(left), island.affine(right), island.output
    workload = AddWorkload(left_shape=island.shape(left), right_shape=island.shape(right), **_bounds(island))
    scale, zero, _ = out or _REAL
    affine = add_affine(
        float(a.scale), a.zero_point, float(b.scale), b.zero_point, float(scale), zero, subtract=node.op == "subtract"
    )  # fmt: skip
    return _call(island, library.add(workload), (left, right, affine))


def lower_product(island: IslandView, library: KernelLibrary) -> LoweredCall:
    """left * right, with the clamp behind it."""
    left, right = island.ops[0].operands
    a, b = island.affine(left), island.affine(right)
    workload = MultiplyWorkload(
        left_shape=island.shape(left), right_shape=island.shape(right),
        left_zero_point=a.zero_point, right_zero_point=b.zero_point, zero_point=_zero_point(island), **_bounds(island),
    )  # fmt: skip
    scale = float(a.scale) * float(b.scale) / float((island.output or _REAL).scale)
    return _call(island, library.multiply(workload), (left, right, np.array([scale], np.float32)))


def lower_mean(island: IslandView, library: KernelLibrary) -> LoweredCall:
    """Average pooling over windows, or a mean over whole axes."""
    node = island.result
    (data,) = node.operands
    source, shape = island.affine(data), island.shape(data)
    bounds, zero_point = _bounds(island), _zero_point(island)
    if node.op == "nn.avg_pool2d":
        attrs = node.expr.attrs
        workload = AvgPoolWorkload(
            shape=nhwc(shape), kernel=pair(attrs.pool_size), stride=pair(attrs.strides), padding=sides(attrs.padding),
            dilation=pair(attrs.dilation), out_size=pair(island.shape(node.name)[1:3]),
            count_include_pad=bool(attrs.count_include_pad), input_zero_point=source.zero_point, zero_point=zero_point, **bounds,
        )  # fmt: skip
        kernel = library.avg_pool2d(workload)
    else:
        axes = tuple(sorted(axis % len(shape) for axis in static_attr(node.expr.attrs.axis))) if node.op == "mean" else (1, 2)
        keepdims = bool(node.expr.attrs.keepdims) if node.op == "mean" else True
        kernel = library.reduce(
            ReduceWorkload(
                shape=shape, axes=axes, keepdims=keepdims, kind="mean", input_zero_point=source.zero_point, zero_point=zero_point, **bounds
            )
        )
    multiplier = float(source.scale) / float((island.output or _REAL).scale)
    return _call(island, kernel, (data, np.array([multiplier], np.float32)))


def lower_concat(island: IslandView, library: KernelLibrary) -> LoweredCall:
    """Concatenation; inputs of the result's own scale are copied, the others requantized, those in their place left there."""
    node, out = island.result, island.stored
    shapes = tuple(island.shape(name) for name in node.operands)
    there = tuple(name in island.in_place for name in node.operands)
    if all(there):
        return LoweredCall(kernel=None, arguments=(), shape=island.out_shape, dtype=island.stored_dtype, whole=island.tensor)
    parts = [island.affine(name) for name in node.operands]
    rows = [requantize_affine(float(part.scale), part.zero_point, float(out.scale), out.zero_point) for part in parts]
    axis = int(node.expr.attrs.axis) % len(shapes[0])
    moved = tuple(is_requantized(part, out) for part in parts)
    workload = ConcatWorkload(shapes=shapes, axis=axis, requantized=moved, in_place=there, dtype=island.carrier, qmin=0, qmax=out.qmax)
    arguments = [name for name, is_there in zip(node.operands, there, strict=True) if not is_there]
    call = _call(island, library.concat(workload), (*arguments, np.stack(rows).astype(np.float32)))
    return replace(call, whole=island.tensor if any(there) else None)


def is_requantized(part: Affine, whole: Affine) -> bool:
    """Whether a concatenation has to change its input's values."""
    return part[:2] != whole[:2] or part.qmax > whole.qmax


class _Bounds(TypedDict, total=False):
    """How operands and result are stored: the fields that all these workloads share."""

    dtype: Carrier
    out: OutType
    qmin: int
    qmax: int
    low: float
    high: float


def _bounds(island: IslandView) -> _Bounds:
    if island.output is None:
        low, high = island.clamp()
        return {"dtype": island.carrier, "out": "float32", "low": low, "high": high}
    qmin, qmax = island.quantized_clamp()
    return {"dtype": island.carrier, "out": island.carrier, "qmin": qmin, "qmax": qmax}


def _zero_point(island: IslandView) -> int:
    return (island.output or _REAL).zero_point


def _call(island: IslandView, kernel: Kernel, arguments: tuple[str | np.ndarray, ...]) -> LoweredCall:
    return LoweredCall(kernel=kernel, arguments=arguments, shape=island.out_shape, dtype=island.stored_dtype)
