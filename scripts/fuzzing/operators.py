"""Random operators that are no layers: functions of one tensor, arithmetic of two, pooling, movement."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from scripts.fuzzing.graph import Graph, Value

Draw = st.DrawFn
_UNARY = ("Relu", "Sigmoid", "Tanh", "HardSwish", "HardSigmoid", "LeakyRelu", "Gelu", "Clip", "silu", "Neg")


def unary(draw: Draw, graph: Graph, x: Value) -> Value:
    op = draw(st.sampled_from(_UNARY))
    if op == "silu":
        return graph.node("Mul", [x.name, graph.node("Sigmoid", [x.name], x.shape).name], x.shape)
    if op == "Clip":
        low = draw(st.sampled_from((0.0, -1.0, -0.25)))
        return graph.node(op, [x.name, *(graph.constant(np.float32(limit)) for limit in (low, draw(st.sampled_from((6.0, 1.0)))))], x.shape)
    return graph.node(op, [x.name], x.shape, **({"alpha": 0.1} if op == "LeakyRelu" else {}))


def with_constant(draw: Draw, graph: Graph, x: Value) -> Value:
    """A scalar, or one for each channel."""
    op, shape = draw(st.sampled_from(("Add", "Sub", "Mul", "Div"))), (x.shape[1], *[1] * (len(x.shape) - 2))
    value = graph.rng.uniform(0.5, 2, draw(st.sampled_from(((), shape))))
    return graph.node(op, [x.name, graph.constant(value.astype(np.float32))], x.shape)


def pair(draw: Draw, graph: Graph, x: Value) -> Value | None:
    """With another value of its shape, or one that is broadcast."""
    fits = [v for v in graph.values if v.shape == x.shape or (len(v.shape) == len(x.shape) == 4 and _broadcasts(v.shape, x.shape))]
    other, op = draw(st.sampled_from(fits)), draw(st.sampled_from(("Add", "Add", "Sub", "Mul")))
    return graph.node(op, [x.name, other.name] if draw(st.booleans()) else [other.name, x.name], x.shape)


def gate(draw: Draw, graph: Graph, x: Value) -> Value | None:
    """Squeeze and excite, without its layers."""
    if len(x.shape) != 4:
        return None
    mean = graph.node("GlobalAveragePool", [x.name], (*x.shape[:2], 1, 1))
    return graph.node("Mul", [x.name, graph.node(draw(st.sampled_from(("Sigmoid", "HardSigmoid"))), [mean.name], mean.shape).name], x.shape)


def concat(draw: Draw, graph: Graph, x: Value) -> Value | None:
    fits = [v for v in graph.values if len(v.shape) == len(x.shape) and v.shape[0] == x.shape[0] and v.shape[2:] == x.shape[2:]]
    parts = [x, *draw(st.lists(st.sampled_from(fits), min_size=1, max_size=2))]
    channels = sum(part.shape[1] for part in parts)
    return graph.node("Concat", [part.name for part in parts], (x.shape[0], channels, *x.shape[2:]), axis=1) if channels <= 24 else None


def split(draw: Draw, graph: Graph, x: Value) -> Value | None:
    if x.shape[1] < 2:
        return None
    first = draw(st.integers(1, x.shape[1] - 1))
    sizes = [first, x.shape[1] - first]
    shapes = [(x.shape[0], size, *x.shape[2:]) for size in sizes]
    made = graph.nodes_of("Split", [x.name, graph.constant(np.array(sizes, np.int64))], shapes, axis=1)
    return made[draw(st.integers(0, 1))]


def pool(draw: Draw, graph: Graph, x: Value) -> Value | None:
    if len(x.shape) < 3:
        return None
    op = draw(st.sampled_from(("MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool")))
    if op.startswith("Global"):
        return graph.node(op, [x.name], (*x.shape[:2], *[1] * (len(x.shape) - 2)))
    kernel = [draw(st.integers(1, min(3, extent))) for extent in x.shape[2:]]
    strides = [draw(st.integers(1, 2)) for _ in kernel]
    pads = [(draw(st.integers(0, (k - 1) // 2)), draw(st.integers(0, (k - 1) // 2))) for k in kernel]
    shape = [(e + sum(p) - k) // s + 1 for e, k, s, p in zip(x.shape[2:], kernel, strides, pads, strict=True)]
    counts = {"count_include_pad": draw(st.integers(0, 1))} if op == "AveragePool" else {}
    edges = [before for before, _ in pads] + [after for _, after in pads]
    return graph.node(op, [x.name], (*x.shape[:2], *shape), kernel_shape=kernel, strides=strides, pads=edges, **counts)


def move(draw: Draw, graph: Graph, x: Value) -> Value | None:
    """Padding, resizing, transposition of height and width, flattening, shuffling of channels."""
    if len(x.shape) != 4:
        return None
    n, c, h, w = x.shape
    op = draw(st.sampled_from(("pad", "resize", "transpose", "flatten", "shuffle", "mean")))
    if op == "pad" and h + w < 40:
        top, left, bottom, right = (draw(st.integers(0, 2)) for _ in range(4))
        widths = graph.constant(np.array([0, 0, top, left, 0, 0, bottom, right], np.int64))
        value = graph.constant(np.float32(draw(st.sampled_from((0.0, 0.5)))))
        return graph.node("Pad", [x.name, widths, value], (n, c, h + top + bottom, w + left + right))
    if op == "resize" and h + w < 20:
        scales = graph.constant(np.array([1, 1, 2, 2], np.float32))
        mode = draw(st.sampled_from(("nearest", "linear")))
        how = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"} if mode == "nearest" else {}
        return graph.node("Resize", [x.name, "", scales], (n, c, 2 * h, 2 * w), mode=mode, **how)
    if op == "transpose":
        return graph.node("Transpose", [x.name], (n, c, w, h), perm=[0, 1, 3, 2])
    if op == "flatten" and c * h * w <= 400:
        return graph.node("Flatten", [x.name], (n, c * h * w))
    if op == "shuffle" and c % 2 == 0:
        apart = graph.node("Reshape", [x.name, graph.constant(np.array([n, 2, c // 2, h, w]))], (n, 2, c // 2, h, w))
        turned = graph.node("Transpose", [apart.name], (n, c // 2, 2, h, w), perm=[0, 2, 1, 3, 4])
        graph.values = [value for value in graph.values if len(value.shape) <= 4]
        return graph.node("Reshape", [turned.name, graph.constant(np.array([n, c, h, w]))], (n, c, h, w))
    if op == "mean":
        keep = draw(st.booleans())
        return graph.node("ReduceMean", [x.name, graph.constant(np.array([2, 3]))], (n, c, 1, 1) if keep else (n, c), keepdims=int(keep))
    return None


def _broadcasts(small: tuple[int, ...], large: tuple[int, ...]) -> bool:
    return all(a in (1, b) for a, b in zip(small, large, strict=True))
