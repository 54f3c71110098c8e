"""A hypothesis strategy of networks: directed acyclic graphs of supported operators, with at least one layer."""

from __future__ import annotations

from collections.abc import Callable

import onnx
from hypothesis import strategies as st

from scripts.fuzzing import layers, movement, operators
from scripts.fuzzing.graph import Graph, Value

Step = Callable[[st.DrawFn, Graph, Value], "Value | None"]
_IMAGES: tuple[Step, ...] = (
    layers.conv, layers.conv, layers.conv, layers.batch_norm, operators.unary, operators.unary, operators.with_constant, operators.pair,
    operators.pair, operators.gate, operators.concat, operators.split, operators.pool, operators.move, operators.move, operators.reduce,
    movement.reshape, movement.transpose, movement.cut,
)  # fmt: skip
_ROWS: tuple[Step, ...] = (
    layers.dense, layers.dense, operators.unary, operators.with_constant, operators.pair, operators.concat, operators.split,
    movement.reshape, movement.cut,
)  # fmt: skip
_SEQUENCES: tuple[Step, ...] = (
    layers.conv, layers.conv, layers.dense, layers.batch_norm, operators.unary, operators.with_constant, operators.pair, operators.concat,
    operators.split, operators.pool, operators.reduce, movement.reshape, movement.transpose, movement.cut,
)  # fmt: skip


@st.composite
def networks(draw: st.DrawFn, most: int = 9) -> onnx.ModelProto:
    """most: steps, of which some are several operators"""
    graph = Graph(draw(st.integers(0, 2**16)))
    batch = draw(st.sampled_from((1, 1, 1, 2, 3)))
    for _ in range(draw(st.sampled_from((1, 1, 1, 2)))):
        graph.input(_shape(draw, batch, graph.inputs[0].shape if graph.inputs else None))
    value = graph.inputs[0]
    for _ in range(draw(st.integers(1, most))):
        if draw(st.integers(0, 3)) == 0:
            value = draw(st.sampled_from(graph.values))
        value = _step(draw, graph, value)
    if not any(node.op_type in ("Conv", "Gemm", "MatMul") for node in graph.nodes):
        value = layers.dense(draw, graph, value) if len(value.shape) == 2 else layers.conv(draw, graph, value)
    read = {name for node in graph.nodes for name in node.input}
    loose = [each for each in graph.values if each.name not in read and each not in graph.inputs]
    outputs = loose if draw(st.booleans()) else [loose[-1]]
    if draw(st.integers(0, 5)) == 0 and len(outputs[-1].shape) == 2:
        outputs[-1] = graph.node("Softmax", [outputs[-1].name], outputs[-1].shape, axis=1)
    return graph.model(outputs)


def _shape(draw: st.DrawFn, batch: int, like: tuple[int, ...] | None) -> tuple[int, ...]:
    """Of an input; a second one may have the shape of the first."""
    if like is not None and draw(st.booleans()):
        return like
    kind = draw(st.sampled_from(("image", "image", "image", "row", "sequence")))
    if kind == "row":
        return batch, draw(st.integers(1, 20))
    if kind == "sequence":
        return batch, draw(st.integers(1, 9)), draw(st.integers(1, 17))
    channels = draw(st.sampled_from((*range(1, 10), 16, 33)))
    return batch, channels, draw(st.integers(1, 15)), draw(st.integers(1, 15))


def _step(draw: st.DrawFn, graph: Graph, value: Value) -> Value:
    steps = {2: _ROWS, 3: _SEQUENCES, 4: _IMAGES}[len(value.shape)]
    return draw(st.sampled_from(steps))(draw, graph, value) or value
