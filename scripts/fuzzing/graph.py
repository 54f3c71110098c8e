"""A network under construction: ONNX nodes, their weights, and the values that later nodes may read."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 20  # the first with Gelu


@dataclass(frozen=True, slots=True)
class Value:
    """A tensor of static shape."""

    name: str
    shape: tuple[int, ...]


@dataclass
class Graph:
    """seed: of all its weights"""

    seed: int
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    weights: dict[str, np.ndarray] = field(default_factory=dict)
    inputs: list[Value] = field(default_factory=list)
    values: list[Value] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)

    def input(self, shape: tuple[int, ...]) -> Value:
        value = Value(f"x{len(self.inputs)}", shape)
        self.inputs.append(value)
        self.values.append(value)
        return value

    def constant(self, array: np.ndarray) -> str:
        name = f"w{len(self.weights)}"
        self.weights[name] = np.asarray(array)
        return name

    def floats(self, *shape: int, gain: float = 1.0) -> str:
        return self.constant((gain * self.rng.standard_normal(shape)).astype(np.float32))

    def node(self, op: str, operands: list[str], shape: tuple[int, ...], **attributes: object) -> Value:
        """A node of one output."""
        return self.nodes_of(op, operands, [shape], **attributes)[0]

    def nodes_of(self, op: str, operands: list[str], shapes: list[tuple[int, ...]], **attributes: object) -> list[Value]:
        """A node of several outputs."""
        made = [Value(f"t{len(self.nodes)}_{i}", shape) for i, shape in enumerate(shapes)]
        self.nodes.append(helper.make_node(op, operands, [value.name for value in made], **attributes))
        self.values += made
        return made

    def model(self, outputs: list[Value]) -> onnx.ModelProto:
        """ONNX, checked."""
        ends = [
            [helper.make_tensor_value_info(value.name, TensorProto.FLOAT, value.shape) for value in part] for part in (self.inputs, outputs)
        ]
        named = [numpy_helper.from_array(array, name) for name, array in self.weights.items()]
        graph = helper.make_graph(self.nodes, "random", ends[0], ends[1], named)
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=9)
        onnx.checker.check_model(made, full_check=True)
        return made
