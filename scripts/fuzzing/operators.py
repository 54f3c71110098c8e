"""Random operators that are no layers: functions of one tensor, arithmetic of two, pooling, movement."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from scripts.fuzzing.graph import Graph, Value

Draw = st.DrawFn
_UNARY = (
    "Relu", "Relu", "Sigmoid", "Tanh", "HardSwish", "HardSigmoid", "LeakyRelu", "Gelu", "Clip", "silu", "Neg", "Pow", "Max", "Min",
    "Softmax", "LRN", "Dropout",
)  # fmt: skip


def unary(draw: Draw, graph: Graph, x: Value) -> Value:
    op = draw(st.sampled_from(_UNARY))
    if op == "silu":
        return graph.node("Mul", [x.name, graph.node("Sigmoid", [x.name], x.shape).name], x.shape)
    if op == "Clip":
        low = draw(st.sampled_from((0.0, -1.0, -0.25)))
        return graph.node(op, [x.name, *(graph.constant(np.float32(limit)) for limit in (low, draw(st.sampled_from((6.0, 1.0)))))], x.shape)
    if op in ("Pow", "Max", "Min"):
        return graph.node(op, [x.name, graph.constant(np.float32(2 if op == "Pow" else draw(st.sampled_from((0.0, 0.25)))))], x.shape)
    if op == "LRN":
        return graph.node(op, [x.name], x.shape, size=draw(st.integers(1, 5)), alpha=0.3) if len(x.shape) == 4 else x
    attributes = {"LeakyRelu": {"alpha": 0.1}, "Softmax": {"axis": draw(st.sampled_from((1, -1)))}}.get(op, {})
    return graph.node(op, [x.name], x.shape, **attributes)


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
    axis = draw(st.sampled_from((1, 1, *range(2, len(x.shape)))))
    fits = [v for v in graph.values if len(v.shape) == len(x.shape) and _without(v.shape, axis) == _without(x.shape, axis)]
    parts = [x, *draw(st.lists(st.sampled_from(fits), min_size=1, max_size=2))]
    extent = sum(part.shape[axis] for part in parts)
    shape = (*x.shape[:axis], extent, *x.shape[axis + 1 :])
    return graph.node("Concat", [part.name for part in parts], shape, axis=axis) if extent <= 100 else None


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
    strides = [draw(st.integers(1, 3)) for _ in kernel]
    pads = [(draw(st.integers(0, (k - 1) // 2)), draw(st.integers(0, (k - 1) // 2))) for k in kernel]
    fits = op == "MaxPool" and all(2 * (k - 1) < e for k, e in zip(kernel, x.shape[2:], strict=True))
    apart = draw(st.integers(1, 2)) if fits else 1
    left = [e + sum(p) - (k - 1) * apart - 1 for e, k, p in zip(x.shape[2:], kernel, pads, strict=True)]
    whole, ceil = ([(room + up * (s - 1)) // s + 1 for room, s in zip(left, strides, strict=True)] for up in (0, 1))
    # Runtimes disagree about windows that begin behind the image.
    within = all((out - 1) * s < e + p[0] for e, out, s, p in zip(x.shape[2:], ceil, strides, pads, strict=True))
    rounds_up = op == "MaxPool" and within and draw(st.booleans())
    shape = ceil if rounds_up else whole
    own = {"ceil_mode": int(rounds_up), "dilations": [apart] * len(kernel)}
    rest = own if op == "MaxPool" else {"count_include_pad": draw(st.integers(0, 1))}
    edges = [before for before, _ in pads] + [after for _, after in pads]
    return graph.node(op, [x.name], (*x.shape[:2], *shape), kernel_shape=kernel, strides=strides, pads=edges, **rest)


def reduce(draw: Draw, graph: Graph, x: Value) -> Value | None:
    """Mean or maximum over any axes but the first; at least one is left."""
    axes = sorted(draw(st.sets(st.integers(1, len(x.shape) - 1), min_size=1, max_size=2)))
    keep = draw(st.booleans()) or len(x.shape) - len(axes) < 2
    shape = tuple(1 if axis in axes else extent for axis, extent in enumerate(x.shape) if keep or axis not in axes)
    op = draw(st.sampled_from(("ReduceMean", "ReduceMean", "ReduceMax")))
    return graph.node(op, [x.name, graph.constant(np.array(axes))], shape, keepdims=int(keep))


def move(draw: Draw, graph: Graph, x: Value) -> Value | None:
    """Padding, resizing, transposition of height and width, flattening, shuffling of channels."""
    if len(x.shape) != 4:
        return None
    n, c, h, w = x.shape
    op = draw(st.sampled_from(("pad", "resize", "resize", "transpose", "flatten", "shuffle")))
    if op == "pad" and h + w < 40:
        top, left, bottom, right = (draw(st.integers(0, 2)) for _ in range(4))
        widths = graph.constant(np.array([0, 0, top, left, 0, 0, bottom, right], np.int64))
        value = graph.constant(np.float32(draw(st.sampled_from((0.0, 0.5)))))
        return graph.node("Pad", [x.name, widths, value], (n, c, h + top + bottom, w + left + right))
    if op == "resize" and h + w < 24:
        return _resize(draw, graph, x)
    if op == "transpose":
        return graph.node("Transpose", [x.name], (n, c, w, h), perm=[0, 1, 3, 2])
    if op == "flatten" and c * h * w <= 400:
        return graph.node("Flatten", [x.name], (n, c * h * w))
    if op == "shuffle" and c % 2 == 0:
        apart = graph.node("Reshape", [x.name, graph.constant(np.array([n, 2, c // 2, h, w]))], (n, 2, c // 2, h, w))
        turned = graph.node("Transpose", [apart.name], (n, c // 2, 2, h, w), perm=[0, 2, 1, 3, 4])
        graph.values = [value for value in graph.values if len(value.shape) <= 4]
        return graph.node("Reshape", [turned.name, graph.constant(np.array([n, c, h, w]))], (n, c, h, w))
    return None


def _resize(draw: Draw, graph: Graph, x: Value) -> Value:
    size = [draw(st.integers(1, 2 * extent)) for extent in x.shape[2:]]
    mode = draw(st.sampled_from(("nearest", "nearest", "linear")))
    how = {"coordinate_transformation_mode": draw(st.sampled_from(("half_pixel", "pytorch_half_pixel", "asymmetric", "align_corners")))}
    if mode == "nearest":
        how["nearest_mode"] = draw(st.sampled_from(("floor", "ceil", "round_prefer_floor", "round_prefer_ceil")))
    shape = (*x.shape[:2], *size)
    return graph.node("Resize", [x.name, "", "", graph.constant(np.array(shape))], shape, mode=mode, **how)


def _without(shape: tuple[int, ...], axis: int) -> tuple[int, ...]:
    return (*shape[:axis], *shape[axis + 1 :])


def _broadcasts(small: tuple[int, ...], large: tuple[int, ...]) -> bool:
    return all(a in (1, b) for a, b in zip(small, large, strict=True))
