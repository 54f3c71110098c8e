"""Small ONNX models for tests: a 1x1 convolution from 3 to 4 channels, then the nodes under test."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper, numpy_helper


def noise(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def around(nodes, weights=None, *, opset=18, shape=(2, 3, 9, 9), ir_version=8, outputs=("y",)):
    """nodes: onnx nodes from "x" (the convolution's output) to `outputs`; weights: name -> array."""
    first = helper.make_node("Conv", ["image", "first.weight", "first.bias"], ["x"], name="first")
    arrays = {"first.weight": noise(4, 3, 1, 1), "first.bias": noise(4, seed=1), **(weights or {})}
    graph = helper.make_graph(
        [first, *nodes], "small",
        [helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None if name != "z" else [1]) for name in outputs],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in arrays.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version)
    inferred = onnx.shape_inference.infer_shapes(model)
    del model.graph.output[:]
    model.graph.output.extend(inferred.graph.output)
    return model


def node(operator, inputs=("x",), outputs=("y",), **attributes):
    return helper.make_node(operator, list(inputs), list(outputs), name=f"the_{operator}", **attributes)
