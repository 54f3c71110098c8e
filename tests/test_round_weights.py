"""Weights on their grids by every rounding, and what the recipe chooses."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import tvm_rsq
from tests.integer_networks import Block
from tvm_rsq.calibration_set import CalibrationSet
from tvm_rsq.config import QuantConfig
from tvm_rsq.decide import decide
from tvm_rsq.errors import ConfigError
from tvm_rsq.executor import Executor
from tvm_rsq.frontend.load_model import load
from tvm_rsq.layer_moments import covariance, from_weight_rows, weight_rows
from tvm_rsq.pipeline import prepare
from tvm_rsq.planner import make_plan
from tvm_rsq.recipe import recipe
from tvm_rsq.round_weights import feedback, nearest, squant
from tvm_rsq.uniform import quantize_weight

X = torch.randn(16, 3, 9, 11, generator=torch.Generator().manual_seed(0))


def network() -> nn.Module:
    """Strides, dilation, uneven padding, depthwise, grouped and dense layers."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=(1, 0)), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.ReLU(),
        nn.Conv2d(8, 8, (2, 1), dilation=2, groups=2), nn.ReLU(), nn.Conv2d(8, 4, 1), nn.Flatten(), nn.Linear(60, 5),
    ).eval()  # fmt: skip


def case(bits: int = 4):
    source = load(network(), (X[:1],))
    model = prepare(source)
    data = CalibrationSet(inputs=(X.numpy(),))
    return source, model, data, make_plan(model, data, QuantConfig(scheme="per_channel", weight_bits=bits, eight_bit_share=0.0))


def test_moments_tell_what_a_change_of_weights_does():
    _, model, data, _ = case()
    executor = Executor(model)
    values = executor.trace([X])
    values["x"] = X
    steps = {step.name: step for step in executor.steps}
    checked = 0
    for layer in executor.layers:
        weight, read = executor.params[layer.name], values[layer.input]
        kernel = tuple(weight.shape[1:3]) if weight.ndim == 4 else (1, 1)
        moments = covariance(layer, steps[layer.binding], read, kernel)
        delta = torch.randn(weight.shape, generator=torch.Generator().manual_seed(1))
        change = steps[layer.binding].evaluate([read, delta])
        rows = weight_rows(layer, delta).to(torch.float64).reshape(len(moments), -1, moments.shape[1])
        expected = torch.einsum("gri,gij,grj->gr", rows, moments, rows).reshape(-1)
        np.testing.assert_allclose(change.reshape(-1, change.shape[-1]).var(0, correction=0), expected, rtol=1e-3)
        assert torch.equal(from_weight_rows(layer, weight_rows(layer, weight), weight), weight)
        checked += 1
    assert checked == 5


@pytest.mark.parametrize("bits", [4, 8])
def test_every_rounding_is_on_the_grid(bits):
    _, model, data, plan = case(bits)
    for made in (nearest(model, plan), squant(model, plan), feedback(model, plan, data)):
        assert list(made) == [layer.name for layer in plan.layers]
        for layer in plan.layers:
            weight, scale = made[layer.name], np.asarray(layer.weight_scale, np.float32)
            axis = 0 if weight.ndim == 4 else 1
            again = quantize_weight(weight, scale, axis, bits)
            along = scale.reshape([-1 if i == axis else 1 for i in range(weight.ndim)])
            np.testing.assert_array_equal(again * along, weight)
            assert weight.dtype == np.float32 and weight.shape == model.params[layer.name].shape


def test_feedback_is_closer_to_the_float_network_where_inputs_are_correlated():
    smooth = torch.nn.functional.interpolate(X, scale_factor=4, mode="bilinear")
    module = nn.Sequential(nn.Conv2d(3, 8, 5), nn.ReLU(), nn.Conv2d(8, 8, 3)).eval()
    model = prepare(load(module, (smooth[:1],)))
    data = CalibrationSet(inputs=(smooth.numpy(),))
    plan = make_plan(model, data, QuantConfig(scheme="per_channel", weight_bits=4, eight_bit_share=0.0))
    executor = Executor(model)
    (exact,) = executor.run([smooth])

    def error(weights: dict[str, np.ndarray]) -> float:
        (out,) = executor.run([smooth], params={name: torch.from_numpy(value) for name, value in weights.items()})
        return float((out - exact).var((0, 2, 3)).sum())

    assert error(feedback(model, plan, data)) < 0.5 * error(nearest(model, plan))


def test_the_recipe():
    config = QuantConfig()
    assert recipe(config, "retro-synthesis").rounding == "squant"
    assert recipe(config, "real").equalization == "activations"
    assert recipe(config, "gaussian").equalization == "none"
    low = QuantConfig(weight_bits=4)
    assert recipe(low, "real").equalization == "outlying"
    assert (recipe(low, "real").weight_range, recipe(low, "real").rounding) == ("mse", "squant")
    assert recipe(low.replace(rounding="feedback"), "real").rounding == "feedback"
    with pytest.raises(ConfigError, match="rounding is 'up', expected auto, nearest"):
        QuantConfig(rounding="up")


@pytest.mark.parametrize("rounding", ["nearest", "squant", "feedback"])
def test_the_library_computes_what_was_decided(rounding):
    module = Block(lambda m, x: m.b(torch.relu(m.a(x))), a=nn.Conv2d(3, 8, 3, padding=1), b=nn.Conv2d(8, 4, 1)).eval()
    config = QuantConfig(scheme="per_channel", weight_bits=4, rounding=rounding)
    quantized = tvm_rsq.quantize(module, config, example_inputs=(X[:1],), calibration=X.numpy())
    assert quantized.plan.provenance["rounding"] == rounding
    assert set(quantized.adjusted) >= {"a.weight", "b.weight", "a.bias", "b.bias"}
    sample = X[:1].numpy()
    np.testing.assert_allclose(quantized.compile().run(sample), quantized.simulate(sample), rtol=1e-5, atol=1e-6)


def test_the_same_data_give_the_same_parameters():
    source, model, data, _ = case()
    one, two = (decide(source, model, data, QuantConfig(weight_bits=4, rounding="feedback")) for _ in range(2))
    assert one.plan.to_json() == two.plan.to_json()
    assert one.adjusted.keys() == two.adjusted.keys()
    assert all(np.array_equal(one.adjusted[name], two.adjusted[name]) for name in one.adjusted)
