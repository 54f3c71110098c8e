"""The sound ONNX files that are corrupted: three made here node by node, and real ones."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

from scripts.models.registry import load

_DATA = Path(__file__).resolve().parents[2] / "tests" / "data"
SHAPE = (1, 3, 16, 16)


def plain() -> bytes:
    """conv - batch norm - relu - max pool, and a reshape whose shape is computed, as exporters write it, before a Gemm."""
    weights = {
        "c.w": _noise(8, 3, 3, 3) / 5, "c.b": _noise(8), "g.w": _noise(8, 512) / 20, "g.b": _noise(8), "zero": np.array([0]),
        "rest": np.array([-1]), **{f"bn.{name}": abs(_noise(8)) + 0.5 for name in ("gamma", "beta", "mean", "var")},
    }  # fmt: skip
    nodes = [
        _node("Conv", "x c.w c.b", "a", kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[1, 1]),
        _node("BatchNormalization", "a bn.gamma bn.beta bn.mean bn.var", "n", epsilon=1e-3),
        _node("Relu", "n", "r"), _node("MaxPool", "r", "p", kernel_shape=[2, 2], strides=[2, 2]),
        _node("Shape", "p", "s"), _node("Gather", "s zero", "batch"), _node("Concat", "batch rest", "shape", axis=0),
        _node("Reshape", "p shape", "f"), _node("Gemm", "f g.w g.b", "y", transB=1),
    ]  # fmt: skip
    return _model(nodes, weights)


def branches() -> bytes:
    """Depthwise convolution, a residual sum, clip, split, concat, pad, resize and slice."""
    weights = {
        "c.w": _noise(8, 3, 1, 1) / 2, "d.w": _noise(8, 1, 3, 3) / 3, "e.w": _noise(4, 16, 3, 3) / 12, "low": np.float32(0),
        "high": np.float32(6), "pads": np.array([0, 0, 1, 1, 0, 0, 1, 1]), "scales": np.array([1, 1, 2, 2], np.float32),
        "from": np.array([1]), "to": np.array([9]), "axis": np.array([2]), "sizes": np.array([4, 4]),
    }  # fmt: skip
    nodes = [
        _node("Conv", "x c.w", "a"), _node("Clip", "a low high", "b"),
        _node("Conv", "b d.w", "c", group=8, pads=[1, 1, 1, 1]), _node("Add", "b c", "s"), _node("Split", "s sizes", "l r", axis=1),
        _node("Sigmoid", "l", "m"), _node("Concat", "m r b", "k", axis=1), _node("Pad", "k pads", "q"),
        _node("Conv", "q e.w", "t", strides=[2, 2], dilations=[1, 1]), _node("Resize", "t  scales", "u", mode="nearest",
        coordinate_transformation_mode="asymmetric", nearest_mode="floor"), _node("Slice", "u from to axis", "v"),
        _node("GlobalAveragePool", "v", "w"), _node("Flatten", "w", "y", axis=1),
    ]  # fmt: skip
    return _model(nodes, weights)


def created() -> bytes:
    """Operators that make tensors out of numbers alone: Range, ConstantOfShape, Expand."""
    weights = {
        "c.w": _noise(4, 3, 3, 3) / 5, "start": np.array(0), "limit": np.array(4), "step": np.array(1), "many": np.array([1, 4, 1, 1]),
        "one": np.array([[[[0.5]]]], np.float32), "length": np.array([4]), "w": _noise(784, 4) / 30,
    }  # fmt: skip
    nodes = [
        _node("Conv", "x c.w", "a"), _node("Expand", "one many", "e"), _node("Mul", "a e", "b"), _node("LeakyRelu", "b", "d", alpha=0.1),
        _node("Range", "start limit step", "order"), _node("ConstantOfShape", "length", "zeros",
        value=numpy_helper.from_array(np.array([0]))), _node("Transpose", "d", "t", perm=[0, 2, 3, 1]), _node("Shape", "t", "h"),
        _node("Gather", "h order", "same"), _node("Add", "same zeros", "shape"), _node("Reshape", "t shape", "z"),
        _node("Flatten", "z", "f", axis=1), _node("MatMul", "f w", "g"), _node("Softmax", "g", "y", axis=-1),
    ]  # fmt: skip
    return _model(nodes, weights)


def quantized() -> bytes:
    """A QDQ network that ONNX Runtime's quantizer wrote."""
    return (_DATA / "qdq-onnxruntime.onnx").read_bytes()


def real() -> bytes:
    """ResNet-20, trained on CIFAR-10, as torch exports it."""
    network, file = load("resnet20-cifar"), io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's notice that there is a newer one
        torch.onnx.export(network.model.eval(), tuple(network.example_inputs), file, dynamo=False, opset_version=17)
    return file.getvalue()


NETWORKS: dict[str, Callable[[], bytes]] = {each.__name__: each for each in (plain, branches, created, quantized, real)}


def _node(operator: str, inputs: str, outputs: str, **attributes: object) -> onnx.NodeProto:
    return helper.make_node(operator, inputs.split(" "), outputs.split(), name=f"the_{outputs.split()[0]}", **attributes)


def _model(nodes: list[onnx.NodeProto], weights: dict[str, np.ndarray]) -> bytes:
    initializers = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, SHAPE)]
    graph = helper.make_graph(nodes, "made", inputs, [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)], initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(onnx.shape_inference.infer_shapes(model, strict_mode=True))
    return model.SerializeToString()


def _noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(shape).standard_normal(shape).astype(np.float32)
