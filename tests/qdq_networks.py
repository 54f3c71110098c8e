"""Small QDQ networks, node by node, for tests of the import."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def network(nodes: list[onnx.NodeProto], constants: dict[str, np.ndarray], opset: int = 19) -> onnx.ModelProto:
    """x (1, 6) -> y (1, 4)"""
    initializers = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 6])]
    graph = helper.make_graph(nodes, "made", inputs, [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4])], initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)], ir_version=9)


WEIGHT = np.random.default_rng(0).integers(-127, 128, (6, 4)).astype(np.int8)
CONSTANTS = {
    "sx": np.float32(0.02), "zx": np.uint8(128), "sw": np.float32(0.01), "w": WEIGHT, "zw": np.int8(0), "sh": np.float32(0.05),
    "zh": np.uint8(0),
}  # fmt: skip


def nodes(*more: onnx.NodeProto, result: str = "y") -> list[onnx.NodeProto]:
    """x -> Q -> DQ -> MatMul, with what comes behind it"""
    return [
        helper.make_node("QuantizeLinear", ["x", "sx", "zx"], ["xq"]),
        helper.make_node("DequantizeLinear", ["xq", "sx", "zx"], ["xr"]),
        helper.make_node("DequantizeLinear", ["w", "sw", "zw"], ["wr"]),
        helper.make_node("MatMul", ["xr", "wr"], [result]),
        *more,
    ]
