"""Graph: an ONNX graph as plain values, its weights apart from its nodes, made static and free of shape arithmetic.

    x -> Shape -> Gather -> Concat(., Constant) -> Reshape(x, .)    becomes    Reshape(x, initializer)

What depends on constants and static shapes is evaluated by onnx's own reference implementation and becomes an initializer called
by the node's output. Arithmetic on float weights is left in place, so that the result keeps the name of the weight (fold_params).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from tvm_rsq.errors import ModelError, UnsupportedError
from tvm_rsq.frontend.onnx_constants import check_constants
from tvm_rsq.frontend.value_sizes import check_value

_CREATING = frozenset(("Cast", "Constant", "ConstantOfShape", "Expand", "Gather", "Range"))
_SMALL = 4096
"""Elements up to which a constant is shown to shape inference: every shape, axis list and scale is far below."""


@dataclass
class Graph:
    """nodes in order; weights: name -> array; inputs and outputs without the weights.   opset: of the default domain."""

    name: str
    opset: int
    ir_version: int
    nodes: list[onnx.NodeProto]
    inputs: list[onnx.ValueInfoProto]
    outputs: list[onnx.ValueInfoProto]
    weights: dict[str, np.ndarray]
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, model: onnx.ModelProto) -> Graph:
        """The graph of a model whose external data is loaded. ModelError: an initializer whose data does not fit its shape."""
        weights = {}
        for tensor in model.graph.initializer:
            try:
                weights[tensor.name] = numpy_helper.to_array(tensor)
            except (ValueError, TypeError, KeyError) as error:
                raise ModelError(f"initializer {tensor.name} is damaged ({error}); export the model again") from error
        opsets = [entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")]
        return cls(
            name=model.graph.name, opset=opsets[0] if opsets else 1, ir_version=model.ir_version, nodes=list(model.graph.node),
            inputs=[value for value in model.graph.input if value.name not in weights], outputs=list(model.graph.output), weights=weights,
        )  # fmt: skip

    def to_model(self, small_only: bool = False) -> onnx.ModelProto:
        """As a model; with `small_only` the large weights are typed inputs, which is all that checker and shape inference need."""
        initializers = [
            numpy_helper.from_array(value, name) for name, value in self.weights.items() if not small_only or value.size <= _SMALL
        ]
        inputs = list(self.inputs)
        if small_only:
            for name, value in self.weights.items():
                if value.size > _SMALL:
                    inputs.append(helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape))
        graph = helper.make_graph(self.nodes, self.name or "graph", inputs, self.outputs, initializers)
        opsets = [helper.make_opsetid("", self.opset)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=max(self.ir_version, 4))  # 4: initializers need not be inputs

    def infer_shapes(self) -> None:
        """Fill `shapes` with every static shape. ModelError: the graph contradicts itself. UnsupportedError: something is too large."""
        check_constants(self.nodes, self.weights)
        try:
            inferred = onnx.shape_inference.infer_shapes(self.to_model(small_only=True), strict_mode=True, data_prop=True)
        except (onnx.shape_inference.InferenceError, ValueError) as error:
            raise ModelError(f"shapes do not fit ({' '.join(str(error).split())}); check the model or its batch size") from error
        self.shapes = {name: value.shape for name, value in self.weights.items()}
        for value in [*inferred.graph.input, *inferred.graph.value_info, *inferred.graph.output]:
            tensor = value.type.tensor_type
            if (
                value.type.HasField("tensor_type")
                and tensor.HasField("shape")
                and all(dim.HasField("dim_value") for dim in tensor.shape.dim)
            ):
                self.shapes[value.name] = tuple(dim.dim_value for dim in tensor.shape.dim)
                if value.name not in self.weights:
                    check_value(value.name, self.shapes[value.name], constant=True)  # which of them are is not known yet

    def fold_constants(self) -> None:
        """Evaluate what depends on constants and shapes only, drop what passes its input through, until nothing changes."""
        count = -1
        while count != len(self.nodes):
            count = len(self.nodes)
            self.infer_shapes()
            self._fold_once()

    def _fold_once(self) -> None:
        kept: list[onnx.NodeProto] = []
        alias: dict[str, str] = {}
        outputs = {value.name for value in self.outputs}
        for node in self.nodes:
            node = renamed(node, alias)
            if node.op_type == "Identity" and node.input[0] in self.weights:
                self.weights[node.output[0]] = self.weights[node.input[0]]  # exporters merge equal weights: each use keeps its own name
            elif self._passes_through(node) and node.output[0] not in outputs:
                alias[node.output[0]] = node.input[0]
            elif node.op_type == "Shape" and node.input[0] in self.shapes:
                start, end = attribute(node, "start", 0), attribute(node, "end", None)
                self.weights[node.output[0]] = np.array(self.shapes[node.input[0]][start:end], np.int64)
            elif all(name in self.weights for name in node.input if name) and self._is_shape_arithmetic(node):
                self.weights.update(zip(node.output, self._evaluate(node), strict=True))
            else:
                kept.append(node)
        self.nodes = kept

    def _passes_through(self, node: onnx.NodeProto) -> bool:
        if node.op_type == "Dropout":
            if len(node.input) > 2 and node.input[2] and self.weights.get(node.input[2], np.array(True)).any():
                raise UnsupportedError(f"{describe(node)} is in training mode; export the model in eval mode")
            return True
        if node.op_type == "Cast" and node.input[0] not in self.weights:
            return attribute(node, "to", 0) == onnx.TensorProto.FLOAT  # activations are float32, or refused later
        return node.op_type == "Identity"

    def _is_shape_arithmetic(self, node: onnx.NodeProto) -> bool:
        floats = [self.weights[name] for name in node.input if name and self.weights[name].dtype.kind == "f"]
        return node.op_type in _CREATING or not any(value.size > 1 for value in floats)

    def _evaluate(self, node: onnx.NodeProto) -> list[np.ndarray]:
        names = [name for name in dict.fromkeys(node.input) if name]
        inputs = [
            helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(self.weights[n].dtype), self.weights[n].shape) for n in names
        ]
        outputs = [helper.make_empty_tensor_value_info(name) for name in node.output if name]
        graph = helper.make_graph([node], "constant", inputs, outputs)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)])
        self._check_made(node)
        try:
            values = ReferenceEvaluator(model).run(None, {name: self.weights[name] for name in names})
        except (ValueError, TypeError, IndexError, NotImplementedError, RuntimeError, MemoryError) as error:
            raise UnsupportedError(f"{describe(node)} cannot be evaluated on its constants ({' '.join(str(error).split())})") from error
        return [np.asarray(value) for value in values]


    def _check_made(self, node: onnx.NodeProto) -> None:
        """UnsupportedError: a few numbers that ask for a huge tensor."""
        alone = replace(self, nodes=[node], inputs=[], outputs=[], weights={n: self.weights[n] for n in node.input if n}, shapes={})
        alone.outputs = [helper.make_empty_tensor_value_info(name) for name in node.output if name]
        alone.infer_shapes()


def describe(node: onnx.NodeProto) -> str:
    """ " "operator Conv (node conv_1)" for error messages; a node without a name is called by its output."""
    operator = node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}.{node.op_type}"
    return f"operator {operator} (node {node.name or (node.output[0] if node.output else 'without a name')})"


def attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    """An attribute's value (strings decoded), or the default. ModelError: it is of another type than a default that is not None."""
    for entry in node.attribute:
        if entry.name == name:
            value = helper.get_attribute_value(entry)
            value = value.decode(errors="replace") if isinstance(value, bytes) else value
            expected = (int, float) if isinstance(default, (int, float)) else type(default)
            if default is not None and not isinstance(value, expected):
                raise ModelError(f"{describe(node)} has {name} = {value}, expected something like {default!r}; export the model again")
            return value
    return default


def renamed(node: onnx.NodeProto, alias: dict[str, str]) -> onnx.NodeProto:
    """The node reading what `alias` says in place of its operands."""
    if not any(name in alias for name in node.input):
        return node
    renamed = onnx.NodeProto()
    renamed.CopyFrom(node)
    renamed.input[:] = [alias.get(name, name) for name in node.input]
    return renamed
