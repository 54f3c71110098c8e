"""Retro-synthesis on networks small enough to optimise in a second."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from tiny_networks import classifier

from scripts.models.registry import load as load_network
from tvm_rsq.calibration_set import CalibrationSet
from tvm_rsq.config import SynthesisConfig
from tvm_rsq.errors import CalibrationError
from tvm_rsq.executor import Executor
from tvm_rsq.frontend.load_model import load as load_model
from tvm_rsq.model import InputSpec
from tvm_rsq.passes.fold_batch_norm import fold_batch_norm
from tvm_rsq.synthesis import synthesize
from tvm_rsq.synthesis_budget import NetworkCost, network_cost, plan_budget
from tvm_rsq.synthesis_input import _as_usual, find_input_scale
from tvm_rsq.synthesis_loss import ChannelStatistics, StatisticsLoss

QUICK = SynthesisConfig(images=8, steps=60, swing=False)  # so that a loss is that of the images as they are


def _mismatch(model, images: np.ndarray) -> float:
    """The batch_norm term, computed with numpy from the values at each batch norm's own input."""
    executor = Executor(model)
    trace = executor.trace([torch.from_numpy(images)])
    terms = []
    for step in executor.batch_norms:
        value = trace[step.input].numpy().astype(np.float64)
        std = np.sqrt(step.variance.numpy() + step.epsilon)
        terms.append((((value.mean((0, 2, 3)) - step.mean.numpy()) / std) ** 2).mean())
        terms[-1] += (((np.sqrt(value.var((0, 2, 3)) + step.epsilon) - std) / std) ** 2).mean()
    return float(np.mean(terms))


def test_loss_is_its_formula():
    model = classifier()
    x = np.random.default_rng(1).standard_normal((4, 3, 16, 16)).astype(np.float32)
    loss = StatisticsLoss(Executor(model), class_weight=0.5, input_weight=0.25)
    images, targets = [torch.from_numpy(x)], torch.tensor([0, 1, 2, 7])
    terms = {name: float(value) for name, value in loss(images, images, targets).items()}
    assert terms["batch_norm"] == pytest.approx(_mismatch(model, x), rel=1e-4)
    assert terms["input"] == pytest.approx((x.mean((0, 2, 3)) ** 2).mean() + ((x.std((0, 2, 3)) - 1) ** 2).mean(), rel=1e-3)
    scores = Executor(model).run(images)[0].numpy().astype(np.float64)
    log_p = scores - np.log(np.exp(scores).sum(1, keepdims=True))
    assert terms["class"] == pytest.approx(-log_p[range(4), targets.numpy()].mean(), rel=1e-4)
    assert terms["total"] == pytest.approx(terms["batch_norm"] + 0.25 * terms["input"] + 0.5 * terms["class"], rel=1e-5)


@pytest.mark.parametrize("shape", [(4, 3, 5, 6), (7, 3), (1, 3, 1, 1)])
def test_statistics_and_their_gradient_are_those_of_var_mean(shape):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64).requires_grad_()
    dims = tuple(i for i in range(x.ndim) if i != 1)
    variance, center = torch.var_mean(x, dims, correction=0)
    mean, std = ChannelStatistics.apply(x, 1e-3)
    torch.testing.assert_close(mean, center)
    torch.testing.assert_close(std, (variance + 1e-3).sqrt())
    assert torch.autograd.gradcheck(lambda value: ChannelStatistics.apply(value, 1e-3), (x,))


def test_a_softmax_at_the_end_makes_no_difference_to_the_loss():
    x = [torch.randn((4, 3, 16, 16), generator=torch.Generator().manual_seed(0))]
    losses = [StatisticsLoss(Executor(classifier(softmax=softmax)), class_weight=1, input_weight=0) for softmax in (False, True)]
    a, b = (float(loss(x, x, torch.arange(4))["class"]) for loss in losses)
    assert a == pytest.approx(b, rel=1e-6) and a > 0.1


def test_images_match_the_statistics_far_better_than_noise():
    model = classifier()
    stripes = np.sign(np.sin(np.arange(16) * 0.8 + np.arange(32)[:, None, None, None])) * np.ones((32, 3, 16, 1))
    _set_statistics(model, stripes.astype(np.float32) + 0.3)
    found = synthesize(model, SynthesisConfig(images=8, steps=60, class_weight=0))
    noise = synthesize(model, SynthesisConfig(images=8, source="gaussian"))
    assert _mismatch(model, found.inputs[0]) < 0.1 * _mismatch(model, noise.inputs[0])
    assert found.source == "retro-synthesis" and found.network_hash == model.network_hash
    assert found.inputs[0].shape == (8, 3, 16, 16) and found.inputs[0].dtype == np.float32
    assert len(found.loss_curve) == 60 and set(found.loss_curve[0]) == {"total", "batch_norm", "input", "class"}
    assert found.loss_curve[-1]["total"] < 0.5 * found.loss_curve[0]["total"]


@pytest.mark.parametrize("config", [QUICK, SynthesisConfig(images=5, batch=2, steps=4, swing=True, low_pass=0.5, optimizer="radam")])
def test_a_seed_gives_the_same_bytes(config):
    model = classifier()
    first, again, other = (synthesize(model, config, seed=seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first.inputs[0], again.inputs[0])
    assert first.loss_curve == again.loss_curve and first.notes == again.notes
    assert (first.inputs[0] != other.inputs[0]).mean() > 0.99


def test_batches_add_up_and_progress_is_reported():
    events = []
    found = synthesize(classifier(), SynthesisConfig(images=5, batch=2, steps=3), progress=events.append)
    assert len(found) == 5
    assert [(e.stage, e.done, e.total) for e in events] == [("synthesis", i, 9) for i in range(1, 10)]
    assert events[-1].detail == f"loss {found.loss_curve[-1]['total']:.3f}"


def test_stopping_keeps_the_best_images_so_far():
    calls = itertools.count()
    found = synthesize(classifier(), SynthesisConfig(images=6, batch=3, steps=20), should_stop=lambda: next(calls) >= 24)
    assert len(found.loss_curve) == 25 and len(found) == 6
    assert "stopped by the user after 25 steps: 6 of 6 images" in found.notes[-1]
    first = synthesize(classifier(), SynthesisConfig(images=6, batch=3, steps=20), should_stop=lambda: True)
    assert len(first) == 3 and "3 of 6 images" in first.notes[-1]


def test_keyboard_interrupt_keeps_the_best_images_so_far():
    def interrupt(event):
        if event.done == 10:
            raise KeyboardInterrupt

    found = synthesize(classifier(), QUICK, progress=interrupt)
    assert len(found) == 8 and "stopped by the user after 10 steps" in found.notes[-1]
    best = min(found.loss_curve[:9], key=lambda terms: terms["total"])
    assert _mismatch(classifier(), found.inputs[0]) == pytest.approx(best["batch_norm"], rel=1e-3)


def test_time_limit_is_noted():
    found = synthesize(classifier(), SynthesisConfig(images=4, steps=5000, time_limit_s=0.5))
    assert 1 <= len(found.loss_curve) < 5000 and "time limit reached" in found.notes[-1]


def test_without_batch_norm_the_class_term_works():
    model = classifier(batch_norm=False)
    found = synthesize(model, QUICK)
    assert found.loss_curve[-1]["class"] < 0.5 * found.loss_curve[0]["class"]
    assert any("no batch norm" in note for note in found.notes)


@pytest.mark.parametrize(("gain", "offset"), [(64.0, 0.0), (64.0, 128.0), (0.25, 0.5)])
def test_the_input_scale_is_found_from_the_statistics(gain, offset):
    plain = classifier()
    # The running statistics of the plain network on N(0, 1) noise, so that the true scale is known.
    images = synthesize(plain, SynthesisConfig(images=64, steps=1)).inputs[0]
    images = (images - images.mean()) / images.std()
    for model in (plain, scaled := classifier(gain=gain, offset=offset)):
        _set_statistics(model, images if model is plain else offset + gain * images)
    loss = StatisticsLoss(Executor(scaled), class_weight=0, input_weight=0)
    found = find_input_scale(loss, True, scaled.inputs, torch.Generator().manual_seed(5))
    assert gain / 2 <= found.gain <= gain * 2
    assert found.offset == pytest.approx(offset, abs=gain)
    loss = StatisticsLoss(Executor(plain), class_weight=0, input_weight=0)
    assert find_input_scale(loss, True, plain.inputs, torch.Generator().manual_seed(5)).gain == 1


def test_images_are_on_one_of_the_usual_scales():
    assert [_as_usual(gain, False) for gain in (0.25, 0.5, 1, 16, 32, 64)] == [0.5, 0.5, 1, 64, 64, 64]
    assert [_as_usual(gain, True) for gain in (0.125, 0.25, 16)] == [0.25, 0.25, 64]
    assert [_as_usual(gain, False) for gain in (2, 8, 128)] == [2, 8, 128] and _as_usual(1, True) == 1


@pytest.mark.parametrize("gain", [0.25, 1.0, 64.0])
def test_the_input_scale_is_found_from_the_biases_of_folded_batch_norms(gain):
    scaled = classifier(gain=gain)
    _set_statistics(scaled, gain * np.random.default_rng(0).standard_normal((64, *scaled.inputs[0].shape[1:])).astype(np.float32))
    for name, value in scaled.params.items():
        if name.endswith(".beta"):  # trained networks shift what they normalise
            value[...] = np.random.default_rng(1).standard_normal(value.shape)
    folded = fold_batch_norm(scaled)
    executor = Executor(folded)
    assert not executor.batch_norms
    loss = StatisticsLoss(executor, class_weight=0, input_weight=0)
    found = find_input_scale(loss, False, folded.inputs, torch.Generator().manual_seed(5))
    if gain < 1:
        assert found.gain == 1  # too large a scale is safer
    else:
        assert gain / 4 <= found.gain <= gain * 4 and "biases" in found.reason


def _set_statistics(model, images: np.ndarray) -> None:
    """Make the running statistics those that the images leave, in place, batch norm after batch norm."""
    for index, name in enumerate(("bn1", "bn2")):
        executor = Executor(model)
        value = executor.trace([torch.from_numpy(images)])[executor.batch_norms[index].input].numpy()
        model.params[f"{name}.mean"][:] = value.mean((0, 2, 3))
        model.params[f"{name}.var"][:] = value.var((0, 2, 3))


def test_controls():
    model = classifier()
    gaussian = synthesize(model, SynthesisConfig(source="gaussian", images=32)).inputs[0]
    uniform = synthesize(model, SynthesisConfig(source="uniform", images=32)).inputs[0]
    for images in (gaussian, uniform):
        assert images.shape == (32, 3, 16, 16) and abs(images.mean()) < 0.05 and abs(images.std() - 1) < 0.05
    assert np.abs(uniform).max() <= 3**0.5 < np.abs(gaussian).max()


def test_a_network_that_computes_nan_is_refused():
    model = classifier()
    model.params["dense.weight"][:] = np.nan
    with pytest.raises(CalibrationError, match="finite number"):
        synthesize(model, QUICK)


def test_the_set_survives_a_file(tmp_path):
    found = synthesize(classifier(), SynthesisConfig(images=2, steps=2))
    found.save(tmp_path / "rs.npz")
    loaded = CalibrationSet.load(tmp_path / "rs.npz")
    np.testing.assert_array_equal(loaded.inputs[0], found.inputs[0])
    assert (loaded.loss_curve, loaded.notes, loaded.network_hash) == (found.loss_curve, found.notes, found.network_hash)


def test_unit_scale_is_found_without_batch_norms():
    network = load_network("vgg-cifar")  # its biases were trained from 0: they say nothing of the scale
    model = load_model(network.model, network.example_inputs)
    loss = StatisticsLoss(Executor(model), class_weight=0.02, input_weight=0.05)
    found = find_input_scale(loss, False, model.inputs, torch.Generator().manual_seed(5))
    assert (found.gain, found.offset) == (1.0, 0.0)


def test_without_batch_norms_half_of_the_images_are_drawn():
    network = load_network("vgg-cifar")
    model = load_model(network.model, network.example_inputs)
    found = synthesize(model, SynthesisConfig(images=5, steps=2, source="retro-synthesis"), seed=3)
    drawn = synthesize(model, SynthesisConfig(images=2, source="statistics"), seed=3)
    assert found.inputs[0].shape == (5, 3, 32, 32) and any("2 of the images are dead leaves" in note for note in found.notes)
    np.testing.assert_array_equal(found.inputs[0][:2], drawn.inputs[0])
    assert len(synthesize(model, SynthesisConfig(images=1, steps=2, source="retro-synthesis"))) == 1
    assert not any("dead leaves" in note for note in synthesize(classifier(), QUICK).notes)


@pytest.mark.parametrize(("shape", "images"), [((1, 3, 16, 16), True), ((1, 8), False), ((1, 64, 4, 4), False)])
def test_images_are_not_taken_for_larger_than_bytes(shape, images):
    class SeesLargeOnes:
        def bias_error(self, _inputs) -> float:
            return math.inf

        def run(self, inputs) -> tuple[None, torch.Tensor]:
            return None, inputs[0].flatten(1)[:, ::3] / 256

    inputs = (InputSpec(name="x", shape=shape, dtype="float32"),)
    gain = find_input_scale(SeesLargeOnes(), False, inputs, torch.Generator().manual_seed(0)).gain
    assert (gain <= 64) == images


def test_cost_counts_multiply_accumulates():
    cost = network_cost(Executor(classifier()), [torch.zeros(1, 3, 16, 16)])
    assert cost.macs == 14 * 14 * 8 * 27 + 7 * 7 * 12 * 72 + 12 * 8


def test_budget_shrinks_with_the_network_and_keeps_the_users_word():
    small, large = NetworkCost(macs=10**6, value_bytes=10**6), NetworkCost(macs=20 * 10**9, value_bytes=4 * 10**8)
    plain = SynthesisConfig(source="retro-synthesis")
    assert (plan_budget(small, plain, "instant").images, plan_budget(small, plain, "instant").steps) == (16, 120)
    reduced = plan_budget(large, plain, "instant")
    assert reduced.steps < 120 and "fewer than the usual" in reduced.notes[0]
    assert reduced.images * reduced.steps * large.seconds < 300
    assert plan_budget(small, plain, "best").images > 16
    stated = plan_budget(large, SynthesisConfig(source="retro-synthesis", images=40, steps=500, batch=10), "instant")
    assert (stated.images, stated.steps, stated.batch) == (40, 500, 10)
