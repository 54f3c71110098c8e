"""Analytic bias correction: the formula, less mean error of quantized layers and outputs, and a name for whatever it could not do."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.integer_networks import Block, conv
from tests.trained_network import trained
from tvm_rsq.bias_correction_analytic import CorrectedBiases, correct_biases_analytically
from tvm_rsq.equalize_weights import equalize_weights
from tvm_rsq.errors import ConfigError, ModelError
from tvm_rsq.executor import Executor
from tvm_rsq.expected_inputs import expected_inputs
from tvm_rsq.frontend.load_model import load
from tvm_rsq.layer_links import biased_layers
from tvm_rsq.layer_statistics import NormalStatistics, batch_norm_of_layers
from tvm_rsq.model import Model
from tvm_rsq.pipeline import prepare
from tvm_rsq.uniform import fake_quantize_weight, weight_scale

SHAPE = (256, 6, 8, 8)


def network(module: nn.Module) -> tuple[Model, dict[str, NormalStatistics], torch.Tensor]:
    """(deploy form, what its batch norms know, the noise that they know)"""
    module, x = trained(module, *SHAPE)
    source = load(module, (x[:1],))
    return prepare(source), dict(batch_norm_of_layers(source)), x


def small() -> nn.Module:
    return nn.Sequential(
        conv(6, 16, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU(), conv(16, 16, 3, groups=16, bias=False), nn.BatchNorm2d(16), nn.ReLU6(),
        conv(16, 12, 1, bias=False), nn.BatchNorm2d(12), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 5),
    )  # fmt: skip


def rounded(model: Model, bits: int = 4) -> dict[str, np.ndarray]:
    """Every layer's weight with one scale for all of it."""
    weights = {name: model.params[name] for name in biased_layers(model)}
    return {name: fake_quantize_weight(w, weight_scale(w, None, bits), None, bits) for name, w in weights.items()}


def mean_errors(model: Model, x: torch.Tensor, weights: dict[str, np.ndarray], found: CorrectedBiases | None) -> dict[str, float]:
    """Layer -> RMS over channels of its output's mean error, its input being the float network's; and "output", of the whole network."""
    params = {**model.params, **weights, **({} if found is None else found.params)}
    quantized = Executor(Model(module=model.module, params=params, inputs=model.inputs))
    executor, layers = Executor(model), biased_layers(model)
    tensors, errors = executor.trace([x]), {}
    inputs = {layer.input for layer in layers.values()}

    def observe(name: str, value: torch.Tensor) -> torch.Tensor | None:
        errors[name] = value - tensors[name]
        return tensors[name] if name in inputs else None

    quantized.run([x], observe=observe)
    of_layers = {name: errors[layer.output] for name, layer in layers.items()} | {"output": quantized.run([x])[0] - executor.run([x])[0]}
    return {name: float(error.double().flatten(0, -2).mean(0).square().mean().sqrt()) for name, error in of_layers.items()}


def test_the_correction_is_the_formula():
    model, statistics, _ = network(small())
    weights, inputs = rounded(model), expected_inputs(model, statistics)
    found = correct_biases_analytically(model, weights, statistics)
    error = (weights["6.weight"] - model.params["6.weight"].astype(np.float64))[:, 0, 0, :]
    np.testing.assert_allclose(found.params["6.bias"], model.params["6.bias"] - error @ inputs["6.weight"], rtol=1e-6, atol=1e-6)
    error = (weights["3.weight"] - model.params["3.weight"].astype(np.float64)).sum((1, 2, 3))
    np.testing.assert_allclose(found.params["3.bias"], model.params["3.bias"] - error * inputs["3.weight"], rtol=1e-6, atol=1e-6)
    error = weights["11.weight"] - model.params["11.weight"].astype(np.float64)
    np.testing.assert_allclose(found.params["11.bias"], model.params["11.bias"] - inputs["11.weight"] @ error, rtol=1e-6, atol=1e-6)
    assert found.params.keys() == {"3.bias", "6.bias", "11.bias"}
    assert all(value.dtype == np.float32 and value.shape == model.params[name].shape for name, value in found.params.items())


def test_mean_errors_shrink():
    model, statistics, x = network(small())
    weights = rounded(model)
    found = correct_biases_analytically(model, weights, statistics)
    before, after = mean_errors(model, x, weights, None), mean_errors(model, x, weights, found)
    assert after["0.weight"] == before["0.weight"] > 0  # it reads the input, of which nothing is known
    for name in ("3.weight", "6.weight", "11.weight", "output"):
        assert after[name] < before[name] / 2, name


def test_statistics_of_an_equalized_network_are_scaled():
    model, statistics, x = network(small())
    equalized = equalize_weights(model)
    assert equalized.factors.keys() == {"0.weight"}  # a relu6 is between the others
    weights = rounded(equalized.model)
    scaled = statistics | {name: statistics[name].scaled(factor) for name, factor in equalized.factors.items()}
    before = mean_errors(equalized.model, x, weights, None)["3.weight"]
    right, wrong = (correct_biases_analytically(equalized.model, weights, known) for known in (scaled, statistics))
    assert mean_errors(equalized.model, x, weights, right)["3.weight"] < before / 2
    assert mean_errors(equalized.model, x, weights, wrong)["3.weight"] > 2 * mean_errors(equalized.model, x, weights, right)["3.weight"]


def test_weights_that_are_exact_leave_biases_alone():
    model, statistics, _ = network(small())
    found = correct_biases_analytically(model, {name: model.params[name] for name in biased_layers(model)}, statistics)
    for name, value in found.params.items():
        np.testing.assert_array_equal(value, model.params[name])


def test_what_could_not_be_done_is_named():
    module = Block(
        lambda m, x: m.d(F.max_pool2d(F.relu(m.c(F.relu(m.norm(m.a(x))))), 2)),
        a=conv(6, 8, 1), norm=nn.BatchNorm2d(8), c=conv(8, 8, 1, bias=False), d=conv(8, 4, 1),
    )  # fmt: skip
    model, statistics, _ = network(module)
    found = correct_biases_analytically(model, rounded(model), statistics)
    unknown = "the mean of its input is not known"
    assert found.params == {} and dict(found.skipped) == {"a.weight": unknown, "c.weight": "it has no bias", "d.weight": unknown}


def test_only_what_is_quantized_is_corrected():
    model, statistics, _ = network(small())
    found = correct_biases_analytically(model, {"6.weight": rounded(model)["6.weight"]}, statistics)
    assert found.params.keys() == {"6.bias"} and found.skipped == {}


def test_what_is_refused():
    model, statistics, _ = network(small())
    weight = model.params["6.weight"]
    with pytest.raises(ConfigError, match="quantized weight 7.weight of shape .*, expected one of the network's weights"):
        correct_biases_analytically(model, {"7.weight": weight}, statistics)
    with pytest.raises(ConfigError, match=r"quantized weight 6.weight of shape \(12, 16\), expected the shape \(12, 1, 1, 16\)"):
        correct_biases_analytically(model, {"6.weight": weight[:, 0, 0]}, statistics)
    with pytest.raises(ModelError, match="statistics of 0.weight have shapes"):
        correct_biases_analytically(model, {"6.weight": weight}, statistics | {"0.weight": statistics["6.weight"]})
