"""Random convolutions and dense layers: shapes, strides, groups, paddings, and weights of every character."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from scripts.fuzzing.graph import Graph, Value

Draw = st.DrawFn
_CHANNELS = (*range(1, 10), 12, 16, 17, 24, 31, 32, 33, 48, 64)  # around what vectors and blocks of kernels hold
_CHARACTERS = ("ordinary", "ordinary", "ordinary", "dead channels", "one large channel", "one large weight", "faint", "constant", "zeros")


def conv(draw: Draw, graph: Graph, x: Value) -> Value:
    """A convolution of (N, C, H, W) or (N, C, L)."""
    spatial, channels = x.shape[2:], x.shape[1]
    kind = draw(st.sampled_from(("plain", "pointwise", "depthwise", "grouped")))
    groups = channels if kind == "depthwise" else draw(st.sampled_from(_divisors(channels))) if kind == "grouped" else 1
    outs = groups * draw(st.integers(1, 2)) if groups > 1 else draw(st.sampled_from(_CHANNELS))
    kernel, strides, dilations, pads, shape = [], [], [], [], []
    for extent in spatial:
        k = 1 if kind == "pointwise" else draw(st.integers(1, min(draw(st.sampled_from((3, 3, 3, 5))), extent)))
        d = draw(st.integers(1, 2)) if (k - 1) * 2 < extent else 1
        s = draw(st.sampled_from((1, 1, 2, 3)))
        reach = (k - 1) * d
        before, after = (draw(st.integers(0, min(2, reach))) for _ in range(2))
        kernel.append(k), strides.append(s), dilations.append(d), pads.append((before, after))
        shape.append((extent + before + after - reach - 1) // s + 1)
    weight = _weight(draw, graph, (outs, channels // groups, *kernel))
    operands = [x.name, weight, *([_bias(draw, graph, outs)] if draw(st.booleans()) else [])]
    edges = [before for before, _ in pads] + [after for _, after in pads]
    attributes = {"group": groups, "kernel_shape": kernel, "strides": strides, "dilations": dilations, "pads": edges}
    return graph.node("Conv", operands, (x.shape[0], outs, *shape), **attributes)


def dense(draw: Draw, graph: Graph, x: Value) -> Value:
    """A dense layer of (N, F), as Gemm or MatMul, or of (N, L, F)."""
    outs, transposed = draw(st.sampled_from(_CHANNELS)), draw(st.booleans())
    shape = (*x.shape[:-1], outs)
    if len(x.shape) == 3 or draw(st.booleans()):
        return graph.node("MatMul", [x.name, _weight(draw, graph, (x.shape[-1], outs))], shape)
    weight = _weight(draw, graph, (outs, x.shape[1]) if transposed else (x.shape[1], outs))
    return graph.node("Gemm", [x.name, weight, _bias(draw, graph, outs)], shape, transB=int(transposed))


def batch_norm(draw: Draw, graph: Graph, x: Value) -> Value:
    channels = x.shape[1]
    parts = [graph.rng.uniform(0.3, 2, channels), graph.rng.standard_normal(channels), graph.rng.standard_normal(channels)]
    if draw(st.booleans()):
        parts[0] = parts[0] * np.where(graph.rng.random(channels) < 0.3, -1, 1)
    names = [graph.constant(part.astype(np.float32)) for part in (*parts, graph.rng.uniform(0.3, 2, channels))]
    return graph.node("BatchNormalization", [x.name, *names], x.shape)


def _weight(draw: Draw, graph: Graph, shape: tuple[int, ...]) -> str:
    fan = max(1, int(np.prod(shape[1:])))
    weight = graph.rng.standard_normal(shape) / np.sqrt(fan)
    character = draw(st.sampled_from(_CHARACTERS))
    if character == "dead channels":
        weight[graph.rng.random(shape[0]) < 0.5] = 0
    elif character == "one large channel":
        weight[graph.rng.integers(shape[0])] *= 1000
    elif character == "one large weight":
        weight.reshape(-1)[graph.rng.integers(weight.size)] *= 30
    elif character == "faint":
        weight *= 1e-4
    elif character == "constant":
        weight[...] = 0.3
    elif character == "zeros":
        weight[...] = 0
    return graph.constant(weight.astype(np.float32))


def _bias(draw: Draw, graph: Graph, count: int) -> str:
    return graph.floats(count, gain=draw(st.sampled_from((0.3, 0.3, 10.0))))


def _divisors(number: int) -> tuple[int, ...]:
    return tuple(divisor for divisor in range(1, number + 1) if number % divisor == 0)
