"""Activations with a scale for each channel, which NNCF gives to what depthwise convolutions read."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

import tvm_rsq
from tvm_rsq.errors import UnsupportedError

RNG = np.random.default_rng(0)
CHANNELS = 5
# Scales without simple ratios: no accumulator falls between two levels.
CONSTANTS = {
    "sx": np.float32(0.0317), "zx": np.uint8(120), "sw": np.float32(0.0113),
    "w": RNG.integers(-127, 128, (CHANNELS, 3, 1, 1)).astype(np.int8),
    "b": (RNG.integers(-3000, 3000, CHANNELS) * 0.0317 * 0.0113).astype(np.float32), "low": np.float32(0), "high": np.float32(6),
    "sc": np.linspace(0.002, 0.02, CHANNELS, dtype=np.float32), "zc": np.zeros(CHANNELS, np.uint8),
    "v": RNG.integers(-127, 128, (CHANNELS, 1, 3, 3)).astype(np.int8), "sv": RNG.uniform(0.005, 0.02, CHANNELS).astype(np.float32),
}  # fmt: skip


def depthwise_network(behind: onnx.NodeProto | None = None, **constants: np.ndarray) -> onnx.ModelProto:
    """x (1, 3, 6, 6) -> conv -> clip -> scales of channels -> depthwise (or `behind`) -> y"""
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "sx", "zx"], ["xq"]),
        helper.make_node("DequantizeLinear", ["xq", "sx", "zx"], ["xr"]),
        helper.make_node("DequantizeLinear", ["w", "sw"], ["wr"]),
        helper.make_node("Conv", ["xr", "wr", "b"], ["h"]),
        helper.make_node("Clip", ["h", "low", "high"], ["c"]),
        helper.make_node("QuantizeLinear", ["c", "sc", "zc"], ["cq"], axis=1),
        helper.make_node("DequantizeLinear", ["cq", "sc", "zc"], ["cr"], axis=1),
        helper.make_node("DequantizeLinear", ["v", "sv"], ["vr"], axis=0),
        behind or helper.make_node("Conv", ["cr", "vr"], ["y"], group=CHANNELS, pads=[1, 1, 1, 1]),
    ]
    named = [numpy_helper.from_array(np.asarray(value), name) for name, value in {**CONSTANTS, **constants}.items()]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, count, 6, 6]) for name, count in (("x", 3), ("y", CHANNELS))]
    return helper.make_model(helper.make_graph(nodes, "made", ends[:1], ends[1:], named), opset_imports=[helper.make_opsetid("", 19)])


def with_output(model: onnx.ModelProto, name: str) -> onnx.ModelProto:
    model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, CHANNELS, 6, 6]))
    return model


def test_the_layers_around_take_the_scales_up_and_compute_the_same_integers():
    model, x = depthwise_network(), RNG.standard_normal((4, 3, 6, 6)).astype(np.float32)
    found = tvm_rsq.quantize(model, calibration=x)
    for image in x:
        wanted = ReferenceEvaluator(model).run(None, {"x": image[None]})[0]
        assert np.abs(found.simulate(image[None]) - wanted).max() <= 1e-5 * np.abs(wanted).max()
    assert [layer.scheme for layer in found.plan.layers] == ["per_channel", "per_channel"]
    assert len({tuple(np.array(layer.weight_scale)) for layer in found.plan.layers}) == 2


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (depthwise_network(helper.make_node("Relu", ["cr"], ["y"])), "operator Relu .* expected a depthwise convolution"),
        (depthwise_network(high=np.float32(1)), "operator Clip .* expected a convolution"),
        (with_output(depthwise_network(), "c"), "output c is beside an activation"),
        (depthwise_network(zc=np.arange(CHANNELS, dtype=np.uint8)), "5 zero points, expected one scale"),
    ],
)
def test_what_cannot_take_them_up_is_refused(model, message):
    with pytest.raises(UnsupportedError, match=message):
        tvm_rsq.quantize(model, calibration=np.zeros((1, 3, 6, 6), np.float32))
