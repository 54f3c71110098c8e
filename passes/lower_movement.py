"""Lower islands that only move quantized values, clamp them, or look them up: the scale stays or sits in a table."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from tvm import relax

from tvm_rsq.errors import UnsupportedError
from tvm_rsq.passes.dataflow import Node, constant_array
from tvm_rsq.passes.island_view import IslandView, LoweredCall, nhwc, pair, sides, static_attr
from tvm_rsq.targets.carried import stored_array
from tvm_rsq.targets.kernel import Kernel
from tvm_rsq.targets.kernel_library import KernelLibrary
from tvm_rsq.targets.workloads_elementwise import ClampWorkload, LookupWorkload, MaxPoolWorkload
from tvm_rsq.targets.workloads_movement import PadWorkload, PermuteWorkload, ResizeNearestWorkload, StridedSliceWorkload

Evaluate = Callable[[relax.Function, np.ndarray], np.ndarray]
"""(an island's function, uint8 values of its only input) -> its result on them, element by element."""

_RESHAPES = frozenset({"reshape", "squeeze", "expand_dims"})


def lower_lookup(island: IslandView, library: KernelLibrary, evaluate: Evaluate) -> LoweredCall:
    """Any function of one tensor as a table of its 256 values."""
    stored = island.view.quantization.keys() - {island.result.name}
    (data,) = {name for node in island.ops for name in node.operands if name in stored}
    levels = np.minimum(np.arange(256), island.affine(data).qmax).astype(np.uint8)
    dtype = island.stored_dtype
    table = evaluate(island.view.function, levels).astype(island.out_dtype)
    kernel = library.lookup(LookupWorkload(shape=island.out_shape, dtype=island.carrier, out=dtype))
    return _call(island, kernel, (data, stored_array(table, dtype)), {data: island.out_shape})


def lower_clamp(island: IslandView, library: KernelLibrary) -> LoweredCall:
    """relu or clip whose input and output share their scale."""
    (data,) = island.result.operands
    qmin, qmax = island.quantized_clamp()
    workload = ClampWorkload(shape=island.out_shape, dtype=island.carrier, qmin=qmin, qmax=qmax)
    return _call(island, library.clamp(workload), (data,))


def lower_move(island: IslandView, library: KernelLibrary) -> LoweredCall:
    """Reshapes, permutations, slices, zero padding, nearest resizing and max pooling."""
    node = island.result
    data = island.ops[0].operands[0]
    shape = island.shape(data)
    if node.op in _RESHAPES:
        return _call(island, None, (data,))
    if node.op == "permute_dims":
        axes = node.expr.attrs.axes
        permutation = tuple(axis % len(shape) for axis in static_attr(axes)) if axes is not None else tuple(reversed(range(len(shape))))
        permute = PermuteWorkload(shape=shape, permutation=permutation, dtype=island.carrier)
        return _call(island, library.permute(permute), (data,))
    if node.op == "nn.max_pool2d":
        return _call(island, _max_pool(island, node, shape, library), (data,))
    if node.op == "nn.pad":
        widths = static_attr(node.expr.attrs.pad_width)
        zero = island.affine(data).zero_point
        pad = PadWorkload(shape=shape, before=widths[0::2], after=widths[1::2], value=zero, dtype=island.carrier)
        return _call(island, library.pad(pad), (data,))
    if node.op in ("strided_slice", "tuple_get_item"):
        begin, strides = _slice(node, shape) if node.op == "strided_slice" else _section(island, node, shape)
        cut = StridedSliceWorkload(shape=shape, begin=begin, strides=strides, out_shape=island.out_shape, dtype=island.carrier)
        return _call(island, library.strided_slice(cut), (data,))
    if node.op == "image.resize2d":
        return _call(island, _resize(island, node, shape, library), (data,))
    raise UnsupportedError(f"{node.op} ({node.name}) has no integer kernel; leave its neighbours in float by an override")


def _max_pool(island: IslandView, node: Node, shape: tuple[int, ...], library: KernelLibrary) -> Kernel:
    attrs = node.expr.attrs
    workload = MaxPoolWorkload(
        shape=nhwc(shape), kernel=pair(attrs.pool_size), stride=pair(attrs.strides), padding=sides(attrs.padding),
        dilation=pair(attrs.dilation), out_size=pair(island.out_shape[1:3]), dtype=island.carrier,
    )  # fmt: skip
    return library.max_pool2d(workload)


def _slice(node: Node, shape: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    axes, starts, _ends, *rest = (_integers(argument) for argument in node.expr.args[1:])
    steps = rest[0] if rest else (1,) * len(axes)
    begin, strides = [0] * len(shape), [1] * len(shape)
    for axis, start, step in zip(axes, starts, steps, strict=True):
        extent = shape[axis]
        begin[axis] = min(max(start + extent if start < 0 else start, 0), extent if step > 0 else extent - 1)
        strides[axis] = step
    return tuple(begin), tuple(strides)


def _section(island: IslandView, node: Node, shape: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Where the index-th piece of a split begins."""
    split = island.view.nodes[node.operands[0]]
    axis = int(split.expr.attrs.axis) % len(shape)
    index = int(node.expr.index)
    pieces = split.expr.ty.fields
    begin = [0] * len(shape)
    begin[axis] = sum(int(piece.shape.values[axis]) for piece in pieces[:index])
    return tuple(begin), (1,) * len(shape)


def _integers(expr: relax.Expr) -> tuple[int, ...]:
    if hasattr(expr, "fields"):
        return tuple(int(field.value) for field in expr.fields)
    if hasattr(expr, "values"):
        return static_attr(expr.values)
    return tuple(int(value) for value in constant_array(expr).reshape(-1))


def _resize(island: IslandView, node: Node, shape: tuple[int, ...], library: KernelLibrary) -> Kernel:
    attrs = node.expr.attrs
    rounding = str(attrs.rounding_method) or "round"
    workload = ResizeNearestWorkload(
        shape=shape, out_size=island.out_shape[1:3], coordinates=str(attrs.coordinate_transformation_mode), rounding=rounding,  # type: ignore[arg-type]
        dtype=island.carrier,
    )
    return library.resize_nearest(workload)


def _call(
    island: IslandView, kernel: Kernel | None, arguments: tuple[str | np.ndarray, ...], shapes: dict[str, tuple[int, ...]] | None = None
) -> LoweredCall:
    return LoweredCall(kernel=kernel, arguments=arguments, shape=island.out_shape, dtype=island.stored_dtype, shapes=shapes or {})
