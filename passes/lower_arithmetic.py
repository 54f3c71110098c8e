"""Lower sums, products, means and concatenations of quantized tensors to kernels that requantize once."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tvm_rsq.passes.island_view import Affine, IslandView, LoweredCall, sides, static_attr
from tvm_rsq.targets.generic.binary import add_affine
from tvm_rsq.targets.generic.quantize import requantize_affine
from tvm_rsq.targets.kernel_library import KernelLibrary
from tvm_rsq.targets.workloads_elementwise import AddWorkload, AvgPoolWorkload, MultiplyWorkload, ReduceWorkload
from tvm_rsq.targets.workloads_movement import ConcatWorkload

_REAL = Affine(1.0, 0)


def lower_sum(island: IslandView, library: KernelLibrary) -> LoweredCall:
    """left + right or left - right, with the clamp behind it."""
    node = island.ops[0]
    left, right = node.operands
    a, b, out = island.affine(left), island.affine(right), island.output
    fields = _stored(island)
    fields.pop("zero_point", None)  # inside the affine
    workload = AddWorkload(left_shape=island.shape(left), right_shape=island.shape(right), **fields)
    scale, zero, _ = out or _REAL
    affine = add_affine(a.scale, a.zero_point, b.scale, b.zero_point, scale, zero, subtract=node.op == "subtract")
    return _call(island, library.add(workload), (left, right, affine))


def lower_product(island: IslandView, library: KernelLibrary) -> LoweredCall:
    """left * right, with the clamp behind it."""
    left, right = island.ops[0].operands
    a, b = island.affine(left), island.affine(right)
    workload = MultiplyWorkload(
        left_shape=island.shape(left), right_shape=island.shape(right),
        left_zero_point=a.zero_point, right_zero_point=b.zero_point, **_stored(island),
    )  # fmt: skip
    scale = float(a.scale) * float(b.scale) / float((island.output or _REAL).scale)
    return _call(island, library.multiply(workload), (left, right, np.array([scale], np.float32)))


def lower_mean(island: IslandView, library: KernelLibrary) -> LoweredCall:
    """Average pooling over windows, or a mean over whole axes."""
    node = island.result
    (data,) = node.operands
    source, shape = island.affine(data), island.shape(data)
    common = {"shape": shape, "input_zero_point": source.zero_point, **_stored(island)}
    if node.op == "nn.avg_pool2d":
        attrs = node.expr.attrs
        workload = AvgPoolWorkload(
            kernel=static_attr(attrs.pool_size), stride=static_attr(attrs.strides), padding=sides(attrs.padding),
            dilation=static_attr(attrs.dilation), out_size=island.shape(node.name)[1:3],
            count_include_pad=bool(attrs.count_include_pad), **common,
        )  # fmt: skip
        kernel = library.avg_pool2d(workload)
    else:
        axes = tuple(sorted(axis % len(shape) for axis in static_attr(node.expr.attrs.axis))) if node.op == "mean" else (1, 2)
        keepdims = bool(node.expr.attrs.keepdims) if node.op == "mean" else True
        kernel = library.reduce(ReduceWorkload(axes=axes, keepdims=keepdims, kind="mean", **common))
    multiplier = float(source.scale) / float((island.output or _REAL).scale)
    return _call(island, kernel, (data, np.array([multiplier], np.float32)))


def lower_concat(island: IslandView, library: KernelLibrary) -> LoweredCall:
    """Concatenation; inputs of the result's own scale are copied, the others requantized, those in their place left there."""
    node, out = island.result, island.output
    shapes = tuple(island.shape(name) for name in node.operands)
    there = tuple(name in island.in_place for name in node.operands)
    if all(there):
        return LoweredCall(kernel=None, arguments=(), shape=island.out_shape, dtype=island.stored_dtype, whole=island.tensor)
    rows = [requantize_affine(*island.affine(name)[:2], *out[:2]) for name in node.operands]
    axis = int(node.expr.attrs.axis) % len(shapes[0])
    moved = tuple(is_requantized(island.affine(name), out) for name in node.operands)
    workload = ConcatWorkload(shapes=shapes, axis=axis, requantized=moved, in_place=there, dtype=island.carrier, qmin=0, qmax=out.qmax)
    arguments = [name for name, is_there in zip(node.operands, there, strict=True) if not is_there]
    call = _call(island, library.concat(workload), (*arguments, np.stack(rows).astype(np.float32)))
    return replace(call, whole=island.tensor if any(there) else None)


def is_requantized(part: Affine, whole: Affine) -> bool:
    """Whether a concatenation has to change its input's values."""
    return part[:2] != whole[:2] or part.qmax > whole.qmax


def _stored(island: IslandView) -> dict[str, object]:
    """How operands and result are stored: the fields that all these workloads share."""
    if island.output is None:
        low, high = island.clamp()
        return {"dtype": island.carrier, "out": "float32", "low": low, "high": high}
    qmin, qmax = island.quantized_clamp()
    return {"dtype": island.carrier, "out": island.carrier, "zero_point": island.output.zero_point, "qmin": qmin, "qmax": qmax}


def _call(island: IslandView, kernel: object, arguments: tuple[str | np.ndarray, ...]) -> LoweredCall:
    return LoweredCall(kernel=kernel, arguments=arguments, shape=island.out_shape, dtype=island.stored_dtype)  # type: ignore[arg-type]
