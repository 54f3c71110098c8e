"""quantized.export_onnx: a QDQ network of the plan, opset 13 to 21.

    stored tensor   QuantizeLinear -> DequantizeLinear, uint8, one scale; fewer than 8 bits by a Clip between them
    weight          DequantizeLinear of int8 (INT4 where it fits, from opset 21), scales per tensor or per output channel; a codebook is a
                    Gather of codes out of it
    bias            DequantizeLinear of int32

What the plan grants beyond that (shifts, sums in int16) other runtimes do not know; their scales are the plan's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper
from tvm import relax
from tvm.ir import GenericConst

from tvm_rsq.atomic_write import atomic_write
from tvm_rsq.errors import ConfigError, ModelError
from tvm_rsq.model import Model
from tvm_rsq.onnx_export import quantization
from tvm_rsq.onnx_export.graph import GraphBuilder
from tvm_rsq.onnx_export.operators import operator
from tvm_rsq.onnx_export.value import TO_FIRST, Value
from tvm_rsq.passes.dataflow import constant_array, variables_of

OLDEST, NEWEST = 13, 21
_IR_VERSIONS = {21: 10}  # opset -> what its tensors of four bits take
_IR_VERSION = 8


@dataclass(frozen=True, slots=True)
class _Weight:
    """A parameter that is stored as integers, and not in the graph yet: who uses it says in which layout."""

    name: str
    array: np.ndarray
    scale: np.ndarray
    axis: int


def qdq_network(model: Model, opset: int = NEWEST) -> onnx.ModelProto:
    """The ONNX network of a model in QDQ form, checked.   ConfigError: another opset. UnsupportedError: an operator, by name."""
    if not OLDEST <= opset <= NEWEST:
        raise ConfigError(f"opset is {opset}, expected {OLDEST} to {NEWEST}")
    made = _Export(model, GraphBuilder(opset)).run()
    try:
        onnx.checker.check_model(made, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ModelError(f"the exported network is no valid ONNX ({str(error).splitlines()[0]}); please report it") from error
    return made


def write_qdq(model: Model, path: Path, opset: int = NEWEST) -> None:
    """One file, whole or not at all.   Errors as `qdq_network`"""
    made = qdq_network(model, opset)
    with atomic_write(path) as partial:
        onnx.save(made, str(partial))


@dataclass
class _Export:
    model: Model
    graph: GraphBuilder
    values: dict[str, Any] = field(default_factory=dict)
    books: Mapping[str, Sequence[Sequence[int]]] = field(default_factory=dict)
    uses: Counter[str] = field(default_factory=Counter)

    def run(self) -> onnx.ModelProto:
        main = self.model.module["main"]
        bindings = [binding for block in main.body.blocks for binding in block.bindings]
        noted = dict(main.attrs.get("rsq.codebook") or {})
        self.books = {str(name): [[int(each) for each in book] for book in books] for name, books in noted.items()}
        # An output is read, too: what it is must not change with what is added to it.
        self.uses = Counter(var.name for expr in (*(binding.value for binding in bindings), main.body.body) for var in variables_of(expr))
        inputs = []
        for spec in self.model.inputs:
            self.values[spec.name] = Value(self.graph.name(spec.name), tuple(spec.shape))
            inputs.append(helper.make_tensor_value_info(spec.name, TensorProto.FLOAT, list(spec.shape)))
        self.values |= self.model.params
        for binding in bindings:
            self.values[binding.var.name] = self._bound(binding.var, binding.value)
        found = [self.values[name].as_it_is(self.graph) for name in (var.name for var in variables_of(main.body.body))]
        outputs = []
        for i, value in enumerate(found):
            name = self.graph.node("Identity", [value.name], f"output_{i}")  # an output has a name of its own, also where it is an input
            outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, list(value.shape)))
        graph = helper.make_graph(self.graph.nodes, self.model.name, inputs, outputs, list(self.graph.initializers.values()))
        opsets = [helper.make_opsetid("", self.graph.opset)]
        return helper.make_model(
            graph, opset_imports=opsets, producer_name="tvm_rsq", ir_version=_IR_VERSIONS.get(self.graph.opset, _IR_VERSION)
        )

    def _bound(self, var: relax.Var, expr: relax.Expr) -> Any:
        if isinstance(expr, relax.Var):
            return self.values[expr.name]
        if isinstance(expr, relax.TupleGetItem):
            return self.values[expr.tuple_value.name][int(expr.index)]
        if isinstance(expr, relax.Tuple):
            return [self._operand(each) for each in expr.fields]
        if not isinstance(expr, relax.Call):
            return constant_array(expr)
        name = expr.op.name
        if name in ("relax.quantize", "relax.dequantize"):
            return self._affine(var.name, name, expr)
        operands = [self._operand(each) for each in expr.args if isinstance(each, relax.Var | relax.Tuple | GenericConst)]
        shape = tuple(int(extent) for extent in var.ty.shape) if hasattr(var.ty, "shape") and var.ty.shape is not None else ()
        if name == "relax.nn.conv2d":
            operands[1] = self._kernel(operands[1])
        elif name == "relax.add" and (joined := self._biased(var, expr, operands)) is not None:
            return joined
        operands = [self._plain(each) for each in operands]
        return operator(name)(self.graph, expr, operands, shape, var.name)

    def _operand(self, expr: relax.Expr) -> Any:
        if isinstance(expr, relax.Var):
            return self.values[expr.name]
        if isinstance(expr, relax.Tuple):
            return [self._plain(self._operand(each)) for each in expr.fields]
        return constant_array(expr)

    def _affine(self, wish: str, name: str, call: relax.Call) -> Any:
        data, scale, zero_point = self._operand(call.args[0]), constant_array(call.args[1]), constant_array(call.args[2])
        if isinstance(data, np.ndarray):
            return _Weight(str(call.args[0].name), data, scale, int(call.attrs.axis) % max(1, data.ndim))
        step = quantization.quantize if name == "relax.quantize" else quantization.dequantize
        return step(self.graph, data, scale, zero_point, wish)

    def _kernel(self, weight: Any) -> Value:
        """OHWI -> OIHW"""
        array = weight.array if isinstance(weight, _Weight) else weight
        first = np.ascontiguousarray(array.transpose(TO_FIRST))
        if isinstance(weight, _Weight):
            name = quantization.weight(self.graph, first, weight.scale, 0, weight.name, self.books.get(weight.name, ()))
        else:
            name = self.graph.constant("weight", first)
        return Value(name, array.shape)

    def _plain(self, operand: Any) -> Any:
        if not isinstance(operand, _Weight):
            return operand
        books = self.books.get(operand.name, ())
        name = quantization.weight(self.graph, operand.array, operand.scale, operand.axis, operand.name, books)
        return Value(name, operand.array.shape)

    def _biased(self, var: relax.Var, call: relax.Call, operands: Sequence[Any]) -> Value | None:
        """The sum as the bias of the convolution or product in front of it, if it is one that nobody else reads."""
        value, bias = operands
        if not isinstance(value, Value) or not isinstance(bias, _Weight | np.ndarray) or not isinstance(call.args[0], relax.Var):
            return None
        size = bias.array.size if isinstance(bias, _Weight) else bias.size
        node = self.graph.made_by(value.name)
        whole = size == value.shape[-1] and self.uses[call.args[0].name] == 1
        if not whole or node is None or node.op_type not in ("Conv", "MatMul") or len(node.input) > 2 or value.name != node.output[0]:
            return None
        if node.op_type == "MatMul":
            if len(value.shape) != 2:
                return None
            node.op_type = "Gemm"
        if isinstance(bias, _Weight):
            bias = _Weight(bias.name, bias.array.reshape(-1), bias.scale.reshape(-1) if bias.scale.size > 1 else bias.scale, 0)
        else:
            bias = self.graph.constant("bias", bias.reshape(-1))
        node.input.append(self._plain(bias).name if isinstance(bias, _Weight) else bias)
        # What makes the bias has to come first.
        self.graph.nodes.remove(node)
        self.graph.nodes.append(node)
        return Value(value.name, tuple(int(extent) for extent in var.ty.shape), value.first)
