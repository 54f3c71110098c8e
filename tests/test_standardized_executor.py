"""Layers' outputs have the statistics of training whatever is put in; the images of effort "instant", and plans from them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache

import numpy as np
import pytest
import torch
from torch import nn

import tvm_rsq
from tests.integer_networks import Block
from tests.trained_network import trained
from tvm_rsq import QuantConfig, SynthesisConfig
from tvm_rsq.calibration_set import CalibrationSet
from tvm_rsq.errors import ConfigError
from tvm_rsq.executor import Executor
from tvm_rsq.frontend.load_model import load
from tvm_rsq.layer_links import biased_layers
from tvm_rsq.layer_statistics import NormalStatistics, batch_norm_of_layers
from tvm_rsq.model import Model
from tvm_rsq.optimised_pixels import PIXEL_REACH
from tvm_rsq.pipeline import prepare
from tvm_rsq.recipe import recipe
from tvm_rsq.shared_prefix import SharedPrefix
from tvm_rsq.standardized_executor import observer, standardized
from tvm_rsq.synthesis import synthesize

INSTANT = SynthesisConfig(images=8)


@cache
def network() -> tuple[Model, Model, Mapping[str, NormalStatistics], torch.Tensor]:
    """(source, deploy form, statistics, what it was trained on)"""
    block = Block(
        lambda m, x: m.d(torch.relu(m.c(torch.relu(m.b(torch.relu(m.a(x)))))).mean((2, 3))),
        a=nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)),
        b=nn.Sequential(nn.Conv2d(8, 8, 3, groups=8, bias=False), nn.BatchNorm2d(8)),
        c=nn.Sequential(nn.Conv2d(8, 16, 1), nn.BatchNorm2d(16)),
        d=nn.Linear(16, 10),
    )
    module, x = trained(block, 32, 3, 20, 20)
    source = load(module, (x[:1],))
    return source, prepare(source), batch_norm_of_layers(source), x


def strange() -> CalibrationSet:
    values = np.random.default_rng(1).exponential(size=(6, 3, 20, 20)) * 7 + 3
    return CalibrationSet(inputs=(values.astype(np.float32),), source="statistics")


def test_outputs_have_the_statistics_of_training():
    _, deploy, statistics, _ = network()
    plain = Executor(deploy)
    made = standardized(plain, statistics, strange()).trace([torch.from_numpy(strange().inputs[0])])
    own = plain.trace([torch.from_numpy(strange().inputs[0])])
    layers = biased_layers(deploy)
    assert len(statistics) == 3
    for name, known in statistics.items():
        flat = made[layers[name].output].reshape(-1, len(known.mean))
        np.testing.assert_allclose(flat.mean(0), known.mean, atol=1e-3)
        np.testing.assert_allclose(flat.std(0, correction=0), known.std, rtol=1e-3)
        assert np.abs(own[layers[name].output].reshape(-1, len(known.mean)).std(0).numpy() / known.std - 1).max() > 0.5


def test_the_given_executor_is_left_alone_and_weights_can_be_replaced():
    _, deploy, statistics, _ = network()
    plain, x = Executor(deploy), torch.from_numpy(strange().inputs[0])
    (before,) = plain.run([x])
    changed = standardized(plain, statistics, strange())
    assert torch.equal(plain.run([x])[0], before)
    (same,) = changed.run([x])
    (other,) = changed.run([x], params={"a.0.weight": plain.params["a.0.weight"] * 1.5})
    assert not torch.allclose(same, other, rtol=0.01)


def test_a_layer_at_a_time_gives_what_the_whole_run_gives():
    _, deploy, statistics, _ = network()
    changed, x = standardized(Executor(deploy), statistics, strange()), torch.from_numpy(strange().inputs[0])
    prefix = SharedPrefix(changed, [x], changed.layers)
    for layer in changed.layers:
        with torch.no_grad():
            (got,) = prefix.rest(layer, prefix.reach(layer), changed.params[layer.name])
        assert torch.equal(got, prefix.reference[0]), layer.name
        prefix.leave(layer)


def test_hybrid_plans_measure_harm_at_the_statistics_of_training():
    source, _, _, x = network()
    instant = tvm_rsq.quantize(source, QuantConfig(synthesis=INSTANT)).plan
    trained_on = tvm_rsq.quantize(source, QuantConfig(), calibration=x.numpy()).plan
    for a, b in zip(instant.layers, trained_on.layers, strict=True):
        assert 0.1 < a.kl_per_channel / b.kl_per_channel < 10, a.name


def test_a_channel_that_does_not_vary_becomes_its_mean():
    _, deploy, statistics, _ = network()
    zero = CalibrationSet(inputs=(np.zeros((2, 3, 20, 20), np.float32),), source="statistics")
    made = standardized(Executor(deploy), statistics, zero).trace([torch.zeros(2, 3, 20, 20)])
    first = biased_layers(deploy)["a.0.weight"].output
    np.testing.assert_allclose(made[first][0, 0, 0], statistics["a.0.weight"].mean, rtol=1e-5)


def test_only_statistics_are_standardized():
    _, deploy, statistics, _ = network()
    images = CalibrationSet(inputs=strange().inputs, source="real")
    x = [torch.from_numpy(images.inputs[0])]
    assert torch.equal(observer(deploy, statistics, images).run(x)[0], Executor(deploy).run(x)[0])
    plain = Executor(deploy)
    assert standardized(plain, {}, strange()) is plain


def test_an_instant_plan_is_close_to_fp32_on_what_the_network_was_trained_on():
    source, deploy, _, x = network()
    quantized = tvm_rsq.quantize(source, QuantConfig(synthesis=INSTANT, scheme="per_channel"))
    assert quantized.calibration.source == "statistics" and quantized.plan.provenance["bias_correction"] == "analytic"
    (expected,) = Executor(deploy).run([x])
    got = np.concatenate([quantized.simulate(x[i : i + 1].numpy()) for i in range(len(x))])
    assert np.abs(got - expected.numpy()).max() < 0.05 * float(expected.std())
    again = tvm_rsq.quantize(source, QuantConfig(synthesis=INSTANT, scheme="per_channel"))
    assert again.plan.to_json() == quantized.plan.to_json()


def test_ranges_are_those_of_training_however_strange_the_data():
    source, _, _, x = network()
    config = QuantConfig(scheme="per_channel", range_method="min_max", equalization="none")

    def highs(data: CalibrationSet) -> np.ndarray:
        plan = tvm_rsq.quantize(source, config, calibration=data).plan
        return np.array([quant.high for name, quant in plan.tensors.items() if name.startswith("relu")])

    expected = highs(CalibrationSet(inputs=(x.numpy(),)))
    assert len(expected) == 3
    # Of skewed data the deviation is right, and the largest value further out.
    ratio = highs(strange()) / expected
    assert ratio.max() < 2.5 and ratio.min() > 0.4
    assert (highs(CalibrationSet(inputs=strange().inputs)) / expected).max() > 3


def test_averages_have_room_for_more_than_drawn_images_show():
    source, deploy, _, _ = network()
    quantized = tvm_rsq.quantize(source, QuantConfig(synthesis=INSTANT, scheme="per_channel", range_method="min_max"))
    executor = observer(quantized.model, batch_norm_of_layers(source), quantized.calibration)
    traced = executor.trace([torch.from_numpy(array) for array in quantized.calibration.inputs])
    pooled = next(step for step in executor.steps if step.op == "relax.mean")
    assert quantized.plan.tensors[pooled.name].high > 1.6 * float(traced[pooled.name].max())  # 1.5 is the margin of all synthetic data
    assert quantized.plan.tensors[pooled.name].high <= float(traced[pooled.inputs[0]].max()) * 1.501  # no further than what is averaged


def test_drawn_images_are_within_reach_and_know_their_seed():
    source, *_ = network()
    first, same, other = (synthesize(source, INSTANT, seed=seed, effort="instant") for seed in (1, 1, 2))
    assert first.source == "statistics" and len(first) == 8
    np.testing.assert_array_equal(first.inputs[0], same.inputs[0])
    assert not np.array_equal(first.inputs[0], other.inputs[0])
    offset, gain = _scale(first)
    assert PIXEL_REACH * 0.7 < np.abs((first.inputs[0] - offset) / gain).max() <= PIXEL_REACH * 1.0001
    assert synthesize(source, SynthesisConfig(images=2, steps=2), effort="best").source == "retro-synthesis"


def test_images_stay_within_reach():
    source, *_ = network()
    made = synthesize(source, SynthesisConfig(images=2, steps=30, learning_rate=1.0, source="retro-synthesis"))
    offset, gain = _scale(made)
    assert np.abs((made.inputs[0] - offset) / gain).max() == pytest.approx(PIXEL_REACH, rel=1e-4)


def _scale(made: CalibrationSet) -> tuple[float, float]:
    """(offset, gain) of the inputs, from the note on them."""
    found = next(re.match(r"input scale (\S+) \+ (\S+) \*", note) for note in made.notes if note.startswith("input scale"))
    return float(found[1]), float(found[2])


@pytest.mark.parametrize("field", [{"rounding": "feedback"}, {"rounding": "reconstruct"}, {"bias_correction": "empirical"}])
def test_what_needs_images_is_refused(field):
    with pytest.raises(ConfigError, match="needs images"):
        recipe(QuantConfig(**field), "statistics")


def test_without_batch_norms_nothing_sets_the_values_right():
    chosen = recipe(QuantConfig(), "statistics", batch_norms=False)
    assert (chosen.equalization, chosen.bias_correction) == ("none", "none")
    assert recipe(QuantConfig(), "statistics").equalization == "activations"
