"""Random operators that move values: reshapes to other ranks, transpositions of any axes but the first, slices."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from scripts.fuzzing.graph import Graph, Value

Draw = st.DrawFn


def reshape(draw: Draw, graph: Graph, x: Value) -> Value:
    """Two neighbouring axes become one, or one of extent 1 is put in or taken out; 2 to 4 axes are left."""
    shape, rank = x.shape, len(x.shape)
    ways = ["join"] * (rank > 2) + ["put in"] * (rank < 4) + ["take out"] * (rank > 2 and 1 in shape[1:])
    way = draw(st.sampled_from(ways))
    if way == "put in":
        axis = draw(st.integers(1, rank))
        return graph.node("Unsqueeze", [x.name, graph.constant(np.array([axis]))], (*shape[:axis], 1, *shape[axis:]))
    if way == "take out":
        axis = draw(st.sampled_from([axis for axis in range(1, rank) if shape[axis] == 1]))
        return graph.node("Squeeze", [x.name, graph.constant(np.array([axis]))], (*shape[:axis], *shape[axis + 1 :]))
    axis = draw(st.integers(1, rank - 2))
    joined = (*shape[:axis], shape[axis] * shape[axis + 1], *shape[axis + 2 :])
    return graph.node("Reshape", [x.name, graph.constant(np.array(joined))], joined)


def transpose(draw: Draw, graph: Graph, x: Value) -> Value:
    order = (0, *draw(st.permutations(range(1, len(x.shape)))))
    return graph.node("Transpose", [x.name], tuple(x.shape[axis] for axis in order), perm=order)


def cut(draw: Draw, graph: Graph, x: Value) -> Value:
    """A slice along one axis."""
    axis = draw(st.integers(1, len(x.shape) - 1))
    start = draw(st.integers(0, x.shape[axis] - 1))
    end = draw(st.integers(start + 1, x.shape[axis]))
    limits = [graph.constant(np.array([number])) for number in (start, end, axis)]
    return graph.node("Slice", [x.name, *limits], (*x.shape[:axis], end - start, *x.shape[axis + 1 :]))
