"""Relax operators as ONNX nodes. Images lie channels first in the graph wherever an operator of images is near."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from tvm import relax

from tvm_rsq.errors import UnsupportedError
from tvm_rsq.onnx_export.graph import GraphBuilder
from tvm_rsq.onnx_export.value import TO_FIRST, Value

_AXES_AS_INPUT = 18  # opset from which ReduceMean and its like take their axes as an input
_GELU = 20

Operand = Value | np.ndarray
Operator = Callable[[GraphBuilder, relax.Call, Sequence[Any], tuple[int, ...], str], Any]


def operator(name: str) -> Operator:
    """graph, call, operands, shape of the result, its name -> Value, or a list of them.   UnsupportedError: there is none"""
    if name not in _OPERATORS:
        raise UnsupportedError(f"{name} cannot be exported to ONNX; leave it out, or give the float network to the other runtime")
    return _OPERATORS[name]


def joined(graph: GraphBuilder, operands: Sequence[Operand], rank: int) -> tuple[list[str], bool]:
    """Names of operands that are broadcast against each other, in one layout, and whether that is channels first."""
    first = rank == 4 and any(isinstance(each, Value) and each.first for each in operands)
    names = []
    for each in operands:
        if isinstance(each, np.ndarray):
            if first and each.ndim:
                each = each.reshape((1,) * (4 - each.ndim) + each.shape).transpose(TO_FIRST)
            names.append(graph.constant("constant", each))
        elif not first:
            names.append(each.as_it_is(graph).name)
        elif len(each.shape) == 4:
            names.append(each.channels_first(graph).name)
        else:  # fewer axes: as many in front as there are missing, then channels first
            whole = (1,) * (4 - len(each.shape)) + each.shape
            shaped = graph.node("Reshape", [each.name, graph.ints("shape", whole)], f"{each.name}_4d")
            names.append(Value(shaped, whole).channels_first(graph).name)
    return names, first


def unary(op: str, **fixed: Any) -> Operator:
    def build(graph: GraphBuilder, _call: relax.Call, operands: Sequence[Any], shape: tuple[int, ...], wish: str) -> Value:
        return Value(graph.node(op, [operands[0].name], wish, **fixed), shape, operands[0].first)

    return build


def binary(op: str) -> Operator:
    def build(graph: GraphBuilder, _call: relax.Call, operands: Sequence[Any], shape: tuple[int, ...], wish: str) -> Value:
        names, first = joined(graph, operands, len(shape))
        return Value(graph.node(op, names, wish), shape, first)

    return build


def _clip(graph: GraphBuilder, call: relax.Call, operands: Sequence[Any], shape: tuple[int, ...], wish: str) -> Value:
    dtype = np.dtype(str(call.ty.dtype))
    limits = [float(call.args[i].value) for i in (1, 2)]
    names = ["" if math.isinf(limit) else graph.constant(f"{wish}_limit", np.array(limit, dtype)) for limit in limits]
    return Value(graph.node("Clip", [operands[0].name, *names], wish), shape, operands[0].first)


def _leaky_relu(graph: GraphBuilder, call: relax.Call, operands: Sequence[Any], shape: tuple[int, ...], wish: str) -> Value:
    return Value(graph.node("LeakyRelu", [operands[0].name], wish, alpha=float(call.attrs.alpha)), shape, operands[0].first)


def _silu(graph: GraphBuilder, _call: relax.Call, operands: Sequence[Any], shape: tuple[int, ...], wish: str) -> Value:
    gate = graph.node("Sigmoid", [operands[0].name], f"{wish}_gate")
    return Value(graph.node("Mul", [operands[0].name, gate], wish), shape, operands[0].first)


def _gelu(approximate: str) -> Operator:
    def build(graph: GraphBuilder, _call: relax.Call, operands: Sequence[Any], shape: tuple[int, ...], wish: str) -> Value:
        if graph.opset < _GELU:
            raise UnsupportedError(f"gelu takes opset {_GELU}, got {graph.opset}; export with a higher opset")
        return Value(graph.node("Gelu", [operands[0].name], wish, approximate=approximate), shape, operands[0].first)

    return build


def _conv2d(graph: GraphBuilder, call: relax.Call, operands: Sequence[Any], shape: tuple[int, ...], wish: str) -> Value:
    data, weight = operands[0].channels_first(graph), operands[1]
    attrs = call.attrs
    attributes = {
        "strides": _ints(attrs.strides), "pads": _ints(attrs.padding), "dilations": _ints(attrs.dilation), "group": int(attrs.groups),
        "kernel_shape": list(weight.shape[1:3]),
    }  # fmt: skip
    return Value(graph.node("Conv", [data.name, weight.name], wish, **attributes), shape, True)


def _matmul(graph: GraphBuilder, _call: relax.Call, operands: Sequence[Any], shape: tuple[int, ...], wish: str) -> Value:
    names = [graph.constant("constant", each) if isinstance(each, np.ndarray) else each.as_it_is(graph).name for each in operands]
    return Value(graph.node("MatMul", names, wish), shape)


def _pool(op: str) -> Operator:
    def build(graph: GraphBuilder, call: relax.Call, operands: Sequence[Any], shape: tuple[int, ...], wish: str) -> Value:
        attrs = call.attrs
        data = operands[0].channels_first(graph) if len(shape) == 4 else operands[0].as_it_is(graph)
        attributes: dict[str, Any] = {"kernel_shape": _ints(attrs.pool_size), "strides": _ints(attrs.strides)}
        name, pads, counted = data.name, _ints(attrs.padding), op == "AveragePool" and bool(attrs.count_include_pad)
        if op == "AveragePool" and attrs.ceil_mode:
            # Runtimes disagree on what a window beyond the padding counts: the padding that counts becomes a node, the rest does not count.
            if counted and any(pads):
                name, pads, counted = _padded(graph, name, pads, wish), [0] * len(pads), False
            pads = _reaching(data.graph_shape[2:], Value("", shape, data.first).graph_shape[2:], pads, _ints(attrs.padding), attributes)
            counted = False
        elif attrs.ceil_mode:
            attributes["ceil_mode"] = 1
        if op == "AveragePool":
            attributes["count_include_pad"] = int(counted)
        elif any(each != 1 for each in attrs.dilation):
            attributes["dilations"] = _ints(attrs.dilation)
        return Value(graph.node(op, [name], wish, pads=pads, **attributes), shape, len(shape) == 4)

    return build


def _padded(graph: GraphBuilder, name: str, pads: Sequence[int], wish: str) -> str:
    half = len(pads) // 2
    every = [0, 0, *pads[:half], 0, 0, *pads[half:]]
    return graph.node("Pad", [name, graph.ints(f"{wish}_pads", every), graph.constant(f"{wish}_zero", np.float32(0))], f"{wish}_padded")


def _reaching(
    sizes: Sequence[int], outs: Sequence[int], pads: Sequence[int], padding: Sequence[int], attributes: Mapping[str, Any]
) -> list[int]:
    """`pads` with as much behind each axis as the last window wants.   padding: that there is, as a node or in `pads`"""
    half, made = len(sizes), list(pads)
    for axis in range(half):
        wanted = (outs[axis] - 1) * attributes["strides"][axis] + attributes["kernel_shape"][axis]
        made[half + axis] += max(0, wanted - (sizes[axis] + padding[axis] + padding[half + axis]))
    return made


def _reduce(op: str) -> Operator:
    def build(graph: GraphBuilder, call: relax.Call, operands: Sequence[Any], shape: tuple[int, ...], wish: str) -> Value:
        data = operands[0]
        keep = bool(call.attrs.keepdims)
        data = data if keep or not data.first or len(shape) <= 2 else data.as_it_is(graph)  # axes that are left would be in another order
        wanted = call.attrs.axis
        axes = sorted(data.axis(int(axis)) for axis in (range(len(data.shape)) if wanted is None else wanted))
        if data.first and not keep and len(shape) == 2 and axes != [2, 3]:
            data = data.as_it_is(graph)
            axes = sorted(int(axis) % len(data.shape) for axis in wanted)
        if graph.opset >= _AXES_AS_INPUT:
            name = graph.node(op, [data.name, graph.ints(f"{wish}_axes", axes)], wish, keepdims=int(keep))
        else:
            name = graph.node(op, [data.name], wish, axes=axes, keepdims=int(keep))
        return Value(name, shape, data.first and keep)

    return build


def _softmax(op: str) -> Operator:
    def build(graph: GraphBuilder, call: relax.Call, operands: Sequence[Any], shape: tuple[int, ...], wish: str) -> Value:
        data = operands[0]
        return Value(graph.node(op, [data.name], wish, axis=data.axis(int(call.attrs.axis))), shape, data.first)

    return build


def _concat(graph: GraphBuilder, call: relax.Call, operands: Sequence[Any], shape: tuple[int, ...], wish: str) -> Value:
    names, first = joined(graph, operands[0], len(shape))
    axis = Value("", shape, first).axis(int(call.attrs.axis))
    return Value(graph.node("Concat", names, wish, axis=axis), shape, first)


def _split(graph: GraphBuilder, call: relax.Call, operands: Sequence[Any], _shape: tuple[int, ...], wish: str) -> list[Value]:
    data, shapes = operands[0], [tuple(int(extent) for extent in field.shape) for field in call.ty.fields]
    axis = int(call.attrs.axis) % len(data.shape)
    sizes = graph.ints(f"{wish}_sizes", [part[axis] for part in shapes])
    names = graph.nodes_of("Split", [data.name, sizes], [f"{wish}_{i}" for i in range(len(shapes))], axis=data.axis(axis))
    return [Value(name, part, data.first) for name, part in zip(names, shapes, strict=True)]


def _pad(graph: GraphBuilder, call: relax.Call, operands: Sequence[Any], shape: tuple[int, ...], wish: str) -> Value:
    data, widths = operands[0], _ints(call.attrs.pad_width)
    order = TO_FIRST if data.first else tuple(range(len(shape)))
    pads = [widths[2 * axis] for axis in order] + [widths[2 * axis + 1] for axis in order]
    value = graph.constant(f"{wish}_value", np.float32(_scalar(call.attrs.pad_value) if hasattr(call.attrs, "pad_value") else 0.0))
    return Value(graph.node("Pad", [data.name, graph.ints(f"{wish}_pads", pads), value], wish), shape, data.first)


def _resize2d(graph: GraphBuilder, call: relax.Call, operands: Sequence[Any], shape: tuple[int, ...], wish: str) -> Value:
    attrs, data = call.attrs, operands[0].channels_first(graph)
    method = {"nearest_neighbor": "nearest", "linear": "linear", "cubic": "cubic"}[str(attrs.method)]
    attributes: dict[str, Any] = {"mode": method, "coordinate_transformation_mode": str(attrs.coordinate_transformation_mode)}
    if method == "nearest":
        attributes["nearest_mode"] = str(attrs.rounding_method) or "round_prefer_floor"
    sizes = graph.ints(f"{wish}_sizes", Value("", shape, True).graph_shape)
    return Value(graph.node("Resize", [data.name, "", "", sizes], wish, **attributes), shape, True)


def _reshape(graph: GraphBuilder, _call: relax.Call, operands: Sequence[Any], shape: tuple[int, ...], wish: str) -> Value:
    return Value(graph.node("Reshape", [operands[0].as_it_is(graph).name, graph.ints(f"{wish}_shape", shape)], wish), shape)


def _permute_dims(graph: GraphBuilder, call: relax.Call, operands: Sequence[Any], shape: tuple[int, ...], wish: str) -> Value:
    data = operands[0]
    axes = [int(axis) % len(shape) for axis in call.attrs.axes]
    if axes == [0, 2, 3, 1] and not data.first:
        return Value(data.name, shape, True)  # what it makes is what lies there, seen channels last
    if axes == [0, 3, 1, 2] and data.first:
        return Value(data.name, shape)
    return Value(graph.node("Transpose", [data.as_it_is(graph).name], wish, perm=axes), shape)


def _slice(graph: GraphBuilder, call: relax.Call, operands: Sequence[Any], shape: tuple[int, ...], wish: str) -> Value:
    axes, begin, end, *steps = ([int(getattr(each, "value", each)) for each in part.fields] for part in call.args[1:])
    data = operands[0]
    given = [begin, end, [data.axis(axis) for axis in axes], *(steps or [[1] * len(axes)])]
    return Value(graph.node("Slice", [data.name, *(graph.ints(f"{wish}_slice", each) for each in given)], wish), shape, data.first)


def _ints(values: Any) -> list[int]:
    return [int(value) for value in values]


def _scalar(value: Any) -> float:
    return float(getattr(value, "value", value))


_OPERATORS: Mapping[str, Operator] = {
    "relax.nn.relu": unary("Relu"), "relax.sigmoid": unary("Sigmoid"), "relax.tanh": unary("Tanh"), "relax.exp": unary("Exp"),
    "relax.sqrt": unary("Sqrt"), "relax.erf": unary("Erf"), "relax.abs": unary("Abs"), "relax.negative": unary("Neg"),
    "relax.add": binary("Add"), "relax.subtract": binary("Sub"), "relax.multiply": binary("Mul"), "relax.divide": binary("Div"),
    "relax.power": binary("Pow"), "relax.maximum": binary("Max"), "relax.minimum": binary("Min"),
    "relax.clip": _clip, "relax.nn.leakyrelu": _leaky_relu, "relax.nn.silu": _silu, "relax.nn.gelu": _gelu("none"),
    "relax.nn.gelu_tanh": _gelu("tanh"), "relax.nn.conv2d": _conv2d, "relax.matmul": _matmul, "relax.nn.max_pool2d": _pool("MaxPool"),
    "relax.nn.avg_pool2d": _pool("AveragePool"), "relax.nn.avg_pool3d": _pool("AveragePool"), "relax.mean": _reduce("ReduceMean"),
    "relax.max": _reduce("ReduceMax"), "relax.nn.softmax": _softmax("Softmax"), "relax.nn.log_softmax": _softmax("LogSoftmax"),
    "relax.concat": _concat, "relax.split": _split, "relax.nn.pad": _pad, "relax.image.resize2d": _resize2d, "relax.reshape": _reshape,
    "relax.nn.batch_flatten": _reshape, "relax.flatten": _reshape, "relax.expand_dims": _reshape, "relax.squeeze": _reshape,
    "relax.permute_dims": _permute_dims, "relax.strided_slice": _slice,
}  # fmt: skip
