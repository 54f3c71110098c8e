"""Networks that were quantized elsewhere: their scales become the plan, and our kernels compute what the file says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from typer.testing import CliRunner

import tvm_rsq
from tests import small_network
from tests.integer_case import noise, quantized
from tests.integer_networks import every_network, varied
from tests.qdq_made import DATA, samples
from tvm_rsq.cli.app import app
from tvm_rsq.onnx_export.export import qdq_network
from tvm_rsq.qdq_import import match_tensors
from tvm_rsq.report.page import render

EVERY = every_network()
# One of each kind of operator; all 77 that export and have a layer were tried by hand, and were equal in every bit.
NAMES = (
    "layer: depthwise strided", "layer: grouped", "operator: hardswish", "operator: squeeze and excite", "operator: split",
    "operator: average pool with ceil", "concat of unequal scales", "residual that is read again", "several outputs", "shared layer",
    "one-dimensional",
)  # fmt: skip
IMAGE = (1, 3, 12, 12)


def outputs(found: tvm_rsq.QuantizedModel, inputs: list[np.ndarray]) -> tuple[np.ndarray, ...]:
    made = found.simulate(*inputs)
    return made if isinstance(made, tuple) else (made,)


@pytest.mark.parametrize("name", NAMES)
def test_our_own_export_comes_back_as_it_was(name):
    found = quantized(*EVERY[name])
    again = tvm_rsq.quantize(qdq_network(found.annotated), calibration=found.calibration)
    inputs = [noise(*spec.shape, seed=5 + i) for i, spec in enumerate(found.model.inputs)]
    for ours, theirs in zip(outputs(found, inputs), outputs(again, inputs), strict=True):
        assert np.array_equal(ours, theirs)
    assert [layer.weight_scale for layer in again.plan.layers] == [layer.weight_scale for layer in found.plan.layers]


def test_large_tensors_are_found_by_their_ends_and_means(monkeypatch):
    network = qdq_network(quantized(*EVERY["operator: squeeze and excite"]).annotated)
    whole = tvm_rsq.quantize(network)
    monkeypatch.setattr(match_tensors, "_LARGE", 60)
    monkeypatch.setattr(match_tensors, "_ENDS", 20)
    assert tvm_rsq.quantize(network).plan == whole.plan and not whole.plan.calibrated


@pytest.mark.parametrize("options", [{}, {"nonuniform": True, "overrides": {"*": "grid=codebook"}}, {"activation_bits": 6}])
def test_few_bits_and_codebooks_come_back(options):
    bits = {} if "activation_bits" in options else {"weight_bits": 4, "eight_bit_share": 0.0}
    found = quantized(varied(), [IMAGE], tvm_rsq.QuantConfig(scheme="per_channel", **bits, **options))
    again = tvm_rsq.quantize(qdq_network(found.annotated), calibration=found.calibration)
    assert [(a.weight_bits, a.codebook, a.weight_bytes) for a in again.plan.layers] == [
        (b.weight_bits, b.codebook, b.weight_bytes) for b in found.plan.layers
    ]
    assert np.array_equal(again.simulate(noise(*IMAGE)), found.simulate(noise(*IMAGE)))


@pytest.mark.parametrize("quantizer", ["onnxruntime", "nncf"])
def test_a_network_that_another_tool_quantized(quantizer):
    """It answers as ONNX Runtime does for the file, but for sums that our kernels do not round in between."""
    found = tvm_rsq.quantize(DATA / f"qdq-{quantizer}.onnx", calibration=samples(16, seed=0))
    inputs, wanted = samples(4, seed=1), np.load(DATA / "qdq-answers.npz")[quantizer]
    assert np.abs(found.simulate(inputs) - wanted).max() <= 0.015 * np.abs(wanted).max()
    assert [layer.scheme for layer in found.plan.layers] == ["per_channel"] * 6
    assert [layer.name for layer in found.plan.layers][::2] == ["first.weight", "second.weight", "last.weight"]
    scales = {float(each) for each in file_scales(onnx.load(DATA / f"qdq-{quantizer}.onnx"))}
    calibrated = 3 if quantizer == "nncf" else 0  # NNCF leaves results in float that our kernels store
    assert sum(quant.scale not in scales for quant in found.plan.tensors.values()) == calibrated
    assert any("calibrated" in note for note in found.plan.notes) == bool(calibrated)
    module = tvm_rsq.compile(found)
    assert np.allclose(module.run(inputs[:1]), found.simulate(inputs[:1]), atol=1e-6)


def file_scales(model: onnx.ModelProto) -> list[np.ndarray]:
    named = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    return [named[node.input[1]].reshape(-1)[0] for node in model.graph.node if node.op_type == "QuantizeLinear"]


def test_batch_norm_behind_a_layer_multiplies_its_scales():
    found = small_network.quantized()
    model = qdq_network(found.annotated)
    conv = next(node for node in model.graph.node if node.op_type == "Conv")
    count = next(len(tensor.dims) and tensor.dims[0] for tensor in model.graph.initializer if tensor.name.startswith(conv.input[2]))
    rng = np.random.default_rng(0)
    shares = {"gamma": rng.uniform(0.5, 2, count), "beta": np.zeros(count), "mean": np.zeros(count), "var": np.ones(count)}
    parts = {f"norm.{name}": value for name, value in shares.items()}
    for name, value in parts.items():
        model.graph.initializer.append(numpy_helper.from_array(value.astype(np.float32), name))
    position = list(model.graph.node).index(conv)
    normalised = helper.make_node("BatchNormalization", ["before", *parts], [conv.output[0]], name="norm")
    conv.output[0] = "before"
    model.graph.node.insert(position + 1, normalised)
    again = tvm_rsq.quantize(model, calibration=found.calibration)
    x = noise(*small_network.SHAPE)
    wanted = ReferenceEvaluator(model).run(None, {found.model.inputs[0].name: x})[0]
    assert again.plan.layers[0].scheme == "per_channel"
    assert np.abs(again.simulate(x) - wanted).max() <= 0.03 * np.abs(wanted).max()


def test_the_command_line(tmp_path: Path):
    out = tmp_path / "net.rsq"
    made = CliRunner().invoke(app, ["compile", str(DATA / "qdq-onnxruntime.onnx"), "-o", str(out)])
    assert made.exit_code == 0 and "6 layers: 6 per-channel" in made.output
    assert tvm_rsq.load(out).plan.notes[0].startswith("quantized elsewhere")


def test_data_is_named_only_where_it_decided_something():
    """Of our own export every tensor has a scale; of the other file some have none."""
    networks = ((qdq_network(quantized(varied(), [IMAGE]).annotated), 12), (DATA / "qdq-nncf.onnx", 16))
    whole, part = (
        tvm_rsq.quantize(net, calibration=tvm_rsq.CalibrationSet(inputs=(noise(4, 3, side, side),), source="noise", notes=("odd",)))
        for net, side in networks
    )
    assert not whole.plan.calibrated and "odd" not in whole.notes and part.plan.calibrated and "odd" in part.notes
    reports = [found.compile().report for found in (whole, part)]
    assert [report.image_source for report in reports] == ["", "noise"] and [len(report.images) for report in reports] == [0, 4]
    assert [{"seed", "calibration", "activation ranges"} <= report.facts.keys() for report in reports] == [False, True]
    assert "Calibration data" not in render(reports[0]) and "Calibration data" in render(reports[1])
