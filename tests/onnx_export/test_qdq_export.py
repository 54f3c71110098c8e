"""The QDQ export: valid ONNX that computes what the plan says, run by onnx's own reference evaluator."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import pytest
import torch
from onnx.reference import ReferenceEvaluator
from torch import nn
from typer.testing import CliRunner

import tvm_rsq
from tests import small_network
from tests.integer_case import noise, quantized, seeded
from tests.integer_networks import every_network, varied
from tests.tiny_networks import classifier
from tvm_rsq.cli.app import app
from tvm_rsq.errors import ConfigError, UnsupportedError
from tvm_rsq.onnx_export.export import qdq_network
from tvm_rsq.quantized_model import QuantizedModel

EVERY = every_network()
# Those that onnx's evaluator is too slow or too old for were run by ONNX Runtime, by hand.
NAMES = (
    "layer: depthwise strided", "layer: grouped", "layer: dilated", "layer: asymmetric padding", "layer: relu6", "operator: leaky relu",
    "operator: hardswish", "operator: silu", "operator: softmax over width", "operator: quotient", "operator: broadcast sum",
    "operator: squeeze and excite", "operator: split", "operator: slice", "operator: shuffle", "operator: max pool",
    "operator: average pool", "operator: average pool with ceil", "operator: mean over height", "operator: mean over channels",
    "operator: padding with another value", "operator: transpose", "operator: squeeze", "concat of unequal scales", "concat with the input",
    "sum of two convolutions", "residual that is read again", "several inputs", "several outputs", "half of a split leaves", "shared layer",
    "flattened into dense", "dense network", "one-dimensional", "batch of two with a residual",
)  # fmt: skip
IMAGE = (1, 3, 12, 12)


def answers(made: onnx.ModelProto, found: QuantizedModel) -> list[tuple[np.ndarray, np.ndarray]]:
    """Output and what the simulation says."""
    inputs = [noise(*spec.shape, seed=5 + i) for i, spec in enumerate(found.model.inputs)]
    given = {spec.name: array for spec, array in zip(found.model.inputs, inputs, strict=True)}
    wanted = found.simulate(*inputs)
    return list(zip(ReferenceEvaluator(made).run(None, given), wanted if isinstance(wanted, tuple) else (wanted,), strict=True))


def check(made: onnx.ModelProto, found: QuantizedModel) -> None:
    """Float32 rounds other than the simulation here and there: a level of a stored tensor may be the next one."""
    for value, wanted in answers(made, found):
        assert value.shape == wanted.shape
        assert np.abs(value - wanted).max() <= 0.02 * np.abs(wanted).max()
        assert np.mean(np.abs(value - wanted) > 1e-4 * np.abs(wanted).max()) <= 0.3


@pytest.mark.parametrize("name", NAMES)
def test_a_network(name):
    found = quantized(*EVERY[name])
    check(qdq_network(found.annotated), found)


@pytest.mark.parametrize("opset", [13, 17, 18, 19, 21])
def test_opsets(opset):
    found = small_network.quantized()
    made = qdq_network(found.annotated, opset)  # which checks it
    assert made.opset_import[0].version == opset
    if opset >= 19:  # the evaluator knows no older DequantizeLinear
        check(made, found)


def test_the_nodes_are_those_that_other_runtimes_fuse():
    """No transposition, biases inside; weights per channel along their own axis."""
    found = quantized(classifier(softmax=True), [small_network.SHAPE], tvm_rsq.QuantConfig(scheme="per_channel"))
    made = qdq_network(found.annotated)
    kinds = Counter(node.op_type for node in made.graph.node)
    assert kinds["Conv"] == 2 and not kinds["Transpose"] and not kinds["Add"]
    shapes = {each.name: each.dims for each in made.graph.initializer}
    for conv in (node for node in made.graph.node if node.op_type == "Conv"):
        (weight,) = (node for node in made.graph.node if conv.input[1] in node.output)
        assert len(conv.input) == 3 and weight.op_type == "DequantizeLinear"
        assert [a.i for a in weight.attribute] == [0] and list(shapes[weight.input[1]]) == [shapes[weight.input[0]][0]]


def test_weights_of_four_bits_and_codebooks():
    config = {"scheme": "per_channel", "weight_bits": 4, "eight_bit_share": 0.0}
    plain = quantized(varied(), [IMAGE], tvm_rsq.QuantConfig(**config))
    made = qdq_network(plain.annotated)
    assert onnx.TensorProto.INT4 in {each.data_type for each in made.graph.initializer}
    assert onnx.TensorProto.INT4 not in {each.data_type for each in qdq_network(plain.annotated, 20).graph.initializer}
    check(made, plain)
    books = quantized(varied(), [IMAGE], tvm_rsq.QuantConfig(**config, nonuniform=True, overrides={"*": "grid=codebook"}))
    made = qdq_network(books.annotated)
    constants = {each.name: onnx.numpy_helper.to_array(each) for each in made.graph.initializer}
    gathers = [node for node in made.graph.node if node.op_type == "Gather"]
    assert gathers and all(constants[node.input[0]].shape == (16,) for node in gathers)
    assert sum(constants[name].nbytes for name in constants if name.endswith("_codes")) == sum(
        each.size for name, each in books.annotated.params.items() if name.endswith("weight")
    )
    check(made, books)


class ReadTwice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.dense, self.bias = nn.Linear(12, 7, bias=False), nn.Parameter(torch.ones(7))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        y = self.dense(x)
        return y, y + self.bias


def test_an_output_keeps_its_value_where_a_bias_is_added_to_it():
    found = quantized(seeded(ReadTwice()), [(2, 12)])
    check(qdq_network(found.annotated), found)


def test_fewer_bits_of_activations_are_clipped():
    found = quantized(varied(), [IMAGE], tvm_rsq.QuantConfig(activation_bits=6))
    made = qdq_network(found.annotated)
    assert "Clip" in {node.op_type for node in made.graph.node}
    check(made, found)


def test_what_cannot_be_exported_is_refused(tmp_path):
    found = small_network.quantized()
    for opset in (12, 22):
        with pytest.raises(ConfigError, match=f"opset is {opset}, expected 13 to 21"):
            found.export_onnx(tmp_path / "net.onnx", opset)
    uneven = quantized(*EVERY["operator: adaptive pool, uneven"])
    with pytest.raises(UnsupportedError, match="adaptive_avg_pool2d cannot be exported to ONNX"):
        uneven.export_onnx(tmp_path / "net.onnx")
    assert not list(tmp_path.iterdir())


def test_the_command_line(tmp_path):
    np.save(tmp_path / "x.npy", noise(4, *small_network.SHAPE[1:]))
    words = ["quantize", "tests.remote.test_bench_devices:network", "--calibration", tmp_path / "x.npy", "-o", tmp_path / "net.qdq.onnx"]
    done = CliRunner().invoke(app, [*map(str, words), "--opset", "17"], catch_exceptions=False)
    assert done.exit_code == 0, done.stderr
    made = onnx.load(tmp_path / "net.qdq.onnx")
    assert made.opset_import[0].version == 17 and "QuantizeLinear" in {node.op_type for node in made.graph.node}
