"""Value: what a variable of the network is in the ONNX graph, where images may lie channels first."""

from __future__ import annotations

from dataclasses import dataclass

from tvm_rsq.onnx_export.graph import GraphBuilder

TO_FIRST, TO_LAST = (0, 3, 1, 2), (0, 2, 3, 1)


@dataclass(frozen=True, slots=True)
class Value:
    """name   in the graph
    shape  as the variable has it
    first  whether the graph has it as (N, C, H, W), and the variable as (N, H, W, C)
    """

    name: str
    shape: tuple[int, ...]
    first: bool = False

    def channels_first(self, graph: GraphBuilder) -> Value:
        """As it is where it is so; behind a Transpose elsewhere."""
        if self.first:
            return self
        return Value(graph.node("Transpose", [self.name], f"{self.name}_nchw", perm=list(TO_FIRST)), self.shape, True)

    def as_it_is(self, graph: GraphBuilder) -> Value:
        """As the variable has it."""
        if not self.first:
            return self
        return Value(graph.node("Transpose", [self.name], f"{self.name}_nhwc", perm=list(TO_LAST)), self.shape)

    def axis(self, axis: int) -> int:
        """The graph's, of the variable's."""
        axis %= len(self.shape)
        return TO_FIRST.index(axis) if self.first else axis

    @property
    def graph_shape(self) -> tuple[int, ...]:
        return tuple(self.shape[axis] for axis in TO_FIRST) if self.first else self.shape
