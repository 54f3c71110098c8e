"""Activation ranges against numpy on the traced values, and the tail that gets a margin."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny_networks import build, classifier
from tvm.relax import op as R

from tvm_rsq import calibration as module
from tvm_rsq.calibration import calibrate
from tvm_rsq.calibration_set import CalibrationSet
from tvm_rsq.errors import CalibrationError, ConfigError
from tvm_rsq.executor import Executor
from tvm_rsq.tail import tail_bounds
from tvm_rsq.uniform import activation_quant, fake_quantize


def _images(count: int = 6, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, 3, 16, 16)).astype(np.float32)


def _identity():
    """One tensor, so that ranges can be compared with numpy on the input itself."""
    return build(lambda emit, x, _p: emit(R.nn.relu(x)), [(1, 3, 16, 16)], {})


def test_min_max_is_the_traces_in_one_chunk_or_in_many(monkeypatch):
    model, images = classifier(), _images()
    trace = Executor(model).trace([torch.from_numpy(images)])
    found = calibrate(model, CalibrationSet(inputs=(images,)))
    assert found.ranges == {name: (float(value.min()), float(value.max())) for name, value in trace.items()}
    assert "x0" in found.ranges and found.margin == 1
    monkeypatch.setattr(module, "_CHUNK_BYTES", 1)
    for name, (low, high) in calibrate(model, CalibrationSet(inputs=(images,))).ranges.items():
        assert (low, high) == pytest.approx(found.ranges[name], rel=1e-5, abs=1e-6)


def test_percentile_is_within_two_bins_of_numpys(monkeypatch):
    images = np.random.default_rng(0).standard_normal((40, 3, 16, 16)).astype(np.float32)
    images[3, 1, 2, 3] = 40.0
    monkeypatch.setattr(module, "_PIECE", 1000)
    low, high = calibrate(_identity(), CalibrationSet(inputs=(images,)), ["x0"], method="percentile").ranges["x0"]
    width = float(images.max() - images.min()) / 8192
    assert low == pytest.approx(np.quantile(images, 1e-4, method="inverted_cdf"), abs=2 * width)
    assert high == pytest.approx(np.quantile(images, 1 - 1e-4, method="inverted_cdf"), abs=2 * width)
    assert high < 10


def test_mse_is_no_worse_than_min_max_and_near_the_best_by_brute_force():
    images = _images()
    images[3, 1, 2, 3] = 40.0

    def error(low: float, high: float) -> float:
        return float(np.square(images - fake_quantize(images, activation_quant(low, high, 4))).mean())

    found = calibrate(_identity(), CalibrationSet(inputs=(images,)), ["x0"], method="mse", bits=4).ranges["x0"]
    ratios = np.linspace(1.0, 0.2, 64)
    best = min(error(images.min() * r, images.max() * r) for r in ratios)
    assert error(*found) <= best * 1.02
    assert error(*found) < 0.8 * error(float(images.min()), float(images.max()))


@pytest.mark.parametrize("method", ["min_max", "percentile", "mse"])
def test_constant_and_zero_tensors_have_ranges(method):
    zeros = np.zeros((2, 3, 16, 16), np.float32)
    found = calibrate(_identity(), CalibrationSet(inputs=(zeros,)), method=method)
    assert set(found.ranges.values()) == {(0.0, 0.0)}
    assert all(quant.scale > 0 for quant in found.quantize(8).values())


def test_quantize_takes_bits_by_name():
    found = calibrate(classifier(), CalibrationSet(inputs=(_images(),)))
    quants = found.quantize(8, {"x0": 4})
    assert quants["x0"].bits == 4 and {q.bits for name, q in quants.items() if name != "x0"} == {8}


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_not_finite_name_the_tensor(bad):
    model = classifier(batch_norm=False)
    model.params["second.weight"][0] = bad
    second = next(layer.binding for layer in Executor(model).layers if layer.name == "second.weight")
    with pytest.raises(CalibrationError, match=f"tensor {second} takes NaN or infinite"):
        calibrate(model, CalibrationSet(inputs=(_images(),)))


def test_data_for_another_network_and_unknown_tensors_are_refused():
    with pytest.raises(CalibrationError, match="expected .*16, 16"):
        calibrate(classifier(), CalibrationSet(inputs=(np.zeros((2, 3, 8, 8), np.float32),)))
    with pytest.raises(CalibrationError, match="nowhere"):
        calibrate(classifier(), CalibrationSet(inputs=(_images(),)), ["x0", "nowhere"])
    with pytest.raises(CalibrationError, match="margin"):
        calibrate(classifier(), CalibrationSet(inputs=(_images(),)), margin=0.5)
    with pytest.raises(ConfigError, match="5 bits"):
        calibrate(classifier(), CalibrationSet(inputs=(_images(),))).quantize(5)


def _two_layers(activation):
    """conv - activation - conv - activation - mean - dense - softmax"""
    rng = np.random.default_rng(0)
    params = {
        "a": rng.standard_normal((4, 3, 3, 3)).astype(np.float32),
        "b": rng.standard_normal((4, 4, 3, 3)).astype(np.float32),
        "c": rng.standard_normal((4, 5)).astype(np.float32),
    }

    def body(emit, x, p):
        x = emit(activation(emit(R.nn.conv2d(x, p["a"]))))
        x = emit(activation(emit(R.nn.conv2d(x, p["b"]))))
        return emit(R.nn.softmax(emit(R.matmul(emit(R.mean(x, [2, 3])), p["c"]))))

    return build(body, [(1, 3, 16, 16)], params)


def test_the_tail_is_what_lies_between_the_last_two_layers():
    executor = Executor(_two_layers(lambda x: R.clip(x, 0, 6)))
    ops = {step.name: step.op for step in executor.steps}
    found = [(ops[name], bounds) for name, bounds in tail_bounds(executor).items()]
    unbounded = (-np.inf, np.inf)
    assert found == [("relax.nn.conv2d", unbounded), ("relax.clip", (0.0, 6.0)), ("relax.mean", (0.0, 6.0))]


def test_margin_stretches_the_tail_of_synthetic_data_up_to_its_bounds():
    model = _two_layers(lambda x: R.clip(x, 0, 6))
    real = calibrate(model, CalibrationSet(inputs=(_images(),)))
    synthetic = calibrate(model, CalibrationSet(inputs=(_images(),), source="retro-synthesis"))
    assert synthetic.margin == 1.5
    tail = tail_bounds(Executor(model))
    for name, (low, high) in real.ranges.items():
        if name not in tail:
            assert synthetic.ranges[name] == (low, high)
            continue
        floor, ceiling = tail[name]
        expected = (max(low * 1.5, floor) if low < 0 else low, min(high * 1.5, ceiling))
        assert synthetic.ranges[name] == pytest.approx(expected)
    assert any(synthetic.ranges[name] != real.ranges[name] for name in tail)
