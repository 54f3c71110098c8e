"""Images by ZeroQ's recipe, on networks small enough to optimise in a second."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from tiny_networks import classifier

from tvm_rsq.calibration_set import CalibrationSet
from tvm_rsq.config import SynthesisConfig
from tvm_rsq.distance_loss import DistanceLoss, ImageStatistics
from tvm_rsq.errors import CalibrationError, ConfigError
from tvm_rsq.executor import Executor
from tvm_rsq.optimised_pixels import PlateauPixels
from tvm_rsq.synthesis import synthesize
from tvm_rsq.synthesis_budget import NetworkCost, plan_budget

QUICK = SynthesisConfig(source="zeroq", images=4, steps=40)


def _of_images(value: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    value = value.astype(np.float64)
    return value.mean((2, 3)), np.sqrt(value.var((2, 3)) + 1e-6)


def _loss(model, images: np.ndarray) -> tuple[float, float]:
    """(batch_norm, input) with numpy: the mean over images of sums over channels."""
    executor = Executor(model)
    trace = executor.trace([torch.from_numpy(images)])
    batch_norm = 0.0
    for step in executor.batch_norms:
        mean, std = _of_images(trace[step.input].numpy())
        batch_norm += ((mean - step.mean.numpy()) ** 2).sum(1).mean()
        batch_norm += ((std - np.sqrt(step.variance.numpy() + 1e-6)) ** 2).sum(1).mean()
    mean, std = _of_images(images)
    return batch_norm, (mean**2).sum(1).mean() + ((std - 1) ** 2).sum(1).mean()


def _lowest(found: CalibrationSet) -> dict[str, float]:
    return min(found.loss_curve, key=lambda terms: terms["total"])


def test_loss_is_its_formula():
    model = classifier()
    x = np.random.default_rng(1).standard_normal((4, 3, 16, 16)).astype(np.float32) * 1.5
    terms = DistanceLoss(Executor(model), per_image=True)([torch.from_numpy(x)], [torch.from_numpy(x)])
    batch_norm, gaussian = _loss(model, x)
    assert float(terms["batch_norm"]) == pytest.approx(batch_norm, rel=1e-4)
    assert float(terms["input"]) == pytest.approx(gaussian, rel=1e-4)
    assert float(terms["total"]) == pytest.approx(batch_norm + gaussian, rel=1e-4)


@pytest.mark.parametrize("shape", [(4, 3, 5, 6), (2, 3, 7), (3, 2, 1, 1), (3, 2)])
def test_statistics_and_their_gradient_are_those_of_each_image(shape):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64).requires_grad_()
    mean, std = ImageStatistics.apply(x, 1e-3)
    flat = x.reshape(*shape[:2], -1)
    torch.testing.assert_close(mean, flat.mean(2))
    torch.testing.assert_close(std, (flat.var(2, correction=0) + 1e-3).sqrt())
    assert torch.autograd.gradcheck(lambda value: ImageStatistics.apply(value, 1e-3), (x,))


def test_the_loss_falls_and_is_that_of_the_images():
    model = classifier()
    found = synthesize(model, QUICK)
    assert found.source == "zeroq" and found.network_hash == model.network_hash
    assert found.inputs[0].shape == (4, 3, 16, 16) and found.inputs[0].dtype == np.float32
    assert len(found.loss_curve) == 40 and set(found.loss_curve[0]) == {"total", "batch_norm", "input"}
    lowest = _lowest(found)
    assert lowest["total"] < 0.2 * found.loss_curve[0]["total"]
    assert _loss(model, found.inputs[0])[0] == pytest.approx(lowest["batch_norm"], rel=1e-3)


def test_it_starts_from_white_noise_and_steps_by_one_half():
    images = torch.zeros(1, 1, 2, 2)
    pixels = PlateauPixels([images], learning_rate=0.5)
    pixels.prepare(0)
    pixels.render()[0].sum().backward()
    pixels.advance(1.0)
    np.testing.assert_allclose(images.detach(), -0.5, rtol=1e-5)  # Adam's first step is the learning rate
    start = synthesize(classifier(), SynthesisConfig(source="zeroq", images=64, steps=1)).inputs[0]
    start /= start.std()  # the scale of the input is found, as for other sources
    assert abs(start.mean()) < 0.02 and abs((start**4).mean() - 3) < 0.1  # N(0, 1)
    assert abs((start[..., 1:] * start[..., :-1]).mean()) < 0.02


def test_the_learning_rate_falls_when_the_loss_rests():
    pixels = PlateauPixels([images := torch.zeros(1, 1, 2, 2)], learning_rate=0.5)
    steps = []
    for step in range(103):
        before = images.detach().clone()
        pixels.prepare(step)
        pixels.render()[0].sum().backward()
        pixels.advance(1.0)
        steps.append(float((before - images.detach()).abs().max()))
    assert steps[101] == pytest.approx(0.5, rel=1e-3) and steps[102] == pytest.approx(0.05, rel=1e-3)


def test_a_seed_gives_the_same_bytes():
    config = SynthesisConfig(source="zeroq", images=5, batch=2, steps=4)
    first, again, other = (synthesize(classifier(), config, seed=seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first.inputs[0], again.inputs[0])
    assert first.loss_curve == again.loss_curve and first.notes == again.notes
    assert (first.inputs[0] != other.inputs[0]).mean() > 0.99


def test_images_do_not_see_each_other():
    """Adam ignores the 1/N of the loss's mean, so that of two images the first is optimised as if it were alone."""
    loss = DistanceLoss(Executor(classifier()), per_image=True)
    noise = torch.randn((2, 3, 16, 16), generator=torch.Generator().manual_seed(0))
    found = []
    for count in (1, 2):
        pixels = PlateauPixels([noise[:count].clone()], learning_rate=0.5)
        for step in range(3):
            pixels.prepare(step)
            images = pixels.render()
            loss(images, images)["total"].backward()
            pixels.advance(1.0)
        found.append(pixels.render()[0].detach()[0])
    np.testing.assert_allclose(found[0], found[1], atol=0.02)


def test_without_batch_norm_the_note_says_what_is_left():
    found = synthesize(classifier(batch_norm=False), QUICK)
    assert all(terms["batch_norm"] == 0 for terms in found.loss_curve)
    assert any("no batch norm: only the input term is left" in note for note in found.notes)
    assert not any("no batch norm" in note for note in synthesize(classifier(), QUICK).notes)


def test_stopping_and_the_time_limit_keep_the_best_so_far():
    calls, events = itertools.count(), []
    config = SynthesisConfig(source="zeroq", images=6, batch=3, steps=20)
    found = synthesize(classifier(), config, should_stop=lambda: next(calls) >= 24, progress=events.append)
    assert len(found.loss_curve) == 25 and len(found) == 6 and "stopped by the user after 25 steps: 6 of 6 images" in found.notes[-1]
    assert [(e.stage, e.done, e.total) for e in events] == [("synthesis", i, 40) for i in range(1, 26)]
    limited = synthesize(classifier(), SynthesisConfig(source="zeroq", images=4, steps=100_000, time_limit_s=0.5))
    assert 1 <= len(limited.loss_curve) < 100_000 and "time limit reached" in limited.notes[-1]
    assert _loss(classifier(), limited.inputs[0])[0] == pytest.approx(_lowest(limited)["batch_norm"], rel=1e-2)


def test_settings_that_it_does_not_use_are_named():
    found = synthesize(classifier(), SynthesisConfig(source="zeroq", images=2, steps=2, swing=False, low_pass=0.5))
    assert "low_pass, swing: not used, source zeroq has its own" in found.notes
    assert not any("not used" in note for note in synthesize(classifier(), QUICK).notes)


def test_a_network_that_computes_nan_is_refused():
    model = classifier()
    model.params["second.weight"][:] = np.nan
    with pytest.raises(CalibrationError, match="finite number.*check its weights"):
        synthesize(model, QUICK)


def test_an_unknown_source_is_refused():
    with pytest.raises(ConfigError, match="source is 'zero-q', expected auto, retro-synthesis, statistics, .* or uniform"):
        SynthesisConfig(source="zero-q")


def test_the_budget_keeps_the_published_steps():
    small, large = NetworkCost(macs=10**6, value_bytes=10**6), NetworkCost(macs=4 * 10**9, value_bytes=2 * 10**8)
    plain = SynthesisConfig(source="zeroq")
    assert (plan_budget(small, plain, "instant").images, plan_budget(small, plain, "instant").steps) == (16, 500)
    assert (plan_budget(large, plain, "instant").images, plan_budget(large, plain, "instant").steps) == (4, 500)
    assert plan_budget(large, SynthesisConfig(source="zeroq", steps=30, images=9), "best").steps == 30
