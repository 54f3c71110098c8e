"""Which values of an ONNX graph cannot be negative, found node by node in execution order.

Quantizers leave a relu out where the quantization behind it saturates at 0 anyway. The float network has to have it again, unless nothing
negative can arrive there.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import onnx

from tvm_rsq.frontend.onnx_graph import attribute
from tvm_rsq.qdq_import.affine import Constants

_ALWAYS = frozenset(("HardSigmoid", "ReduceL2", "Relu", "Sigmoid", "Softmax"))
_AS_FIRST = frozenset((
    "AveragePool", "DequantizeLinear", "Dropout", "Flatten", "GlobalAveragePool", "GlobalMaxPool", "HardSwish", "Identity", "LRN",
    "MaxPool", "QuantizeLinear", "ReduceMax", "ReduceMean", "Reshape", "Resize", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze",
    "Upsample",
))  # fmt: skip
_AS_ALL = frozenset(("Add", "Concat", "Min", "Mul", "Sum"))


@dataclass
class NonNegative:
    """names: values known not to be negative"""

    constants: Constants
    names: set[str] = field(default_factory=set)

    def visit(self, node: onnx.NodeProto) -> None:
        """Add what the node makes, if it belongs there; in execution order."""
        first = bool(node.input) and self.holds(node.input[0])
        first = first and attribute(node, "mode", "") != "cubic"  # which overshoots
        known = node.op_type in _ALWAYS or (node.op_type in _AS_FIRST and first)
        known = known or (node.op_type in _AS_ALL and all(self.holds(name) for name in node.input))
        known = known or (node.op_type == "Max" and any(self.holds(name) for name in node.input))
        if known or (node.op_type == "Clip" and (first or self._clips(node))):
            self.names.update(node.output)

    def holds(self, name: str) -> bool:
        """Whether the value is known not to be negative."""
        if name in self.names:
            return True
        value = self.constants.get(name)
        return value is not None and value.dtype.kind == "f" and value.size > 0 and bool((value >= 0).all())

    def _clips(self, node: onnx.NodeProto) -> bool:
        lower = self.constants.number(node, 1) if len(node.input) > 1 and node.input[1] else attribute(node, "min", None)
        return isinstance(lower, float) and lower >= 0
