"""Images from a generator by GENIE's recipe, on networks small enough to optimise in seconds."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from tiny_networks import build, classifier
from tvm.relax import op as R

from tvm_rsq.calibration_set import CalibrationSet
from tvm_rsq.config import SynthesisConfig
from tvm_rsq.distance_loss import DistanceLoss
from tvm_rsq.errors import CalibrationError
from tvm_rsq.executor import Executor
from tvm_rsq.image_generator import GeneratedImages, ImageGenerator, generator_cost
from tvm_rsq.model import InputSpec
from tvm_rsq.synthesis import synthesize
from tvm_rsq.synthesis_budget import NetworkCost, plan_budget

QUICK = SynthesisConfig(source="generator", images=8, steps=40, swing=False)


def _loss(model, images: np.ndarray) -> tuple[float, float]:
    """(batch_norm, input) with numpy: means over channels of the batch's statistics, and the input's by image."""
    executor = Executor(model)
    trace = executor.trace([torch.from_numpy(images)])
    batch_norm = 0.0
    for step in executor.batch_norms:
        value = trace[step.input].numpy().astype(np.float64)
        batch_norm += ((value.mean((0, 2, 3)) - step.mean.numpy()) ** 2).mean()
        batch_norm += ((value.std((0, 2, 3)) - np.sqrt(step.variance.numpy() + 1e-6)) ** 2).mean()
    return batch_norm, (images.mean((2, 3)) ** 2).sum(1).mean() + ((images.std((2, 3)) - 1) ** 2).sum(1).mean()


def _lowest(found: CalibrationSet) -> dict[str, float]:
    return min(found.loss_curve, key=lambda terms: terms["total"])


def test_loss_is_its_formula():
    model = classifier()
    x = np.random.default_rng(1).standard_normal((4, 3, 16, 16)).astype(np.float32) * 1.5
    terms = DistanceLoss(Executor(model), per_image=False)([torch.from_numpy(x)], [torch.from_numpy(x)])
    batch_norm, gaussian = _loss(model, x)
    assert float(terms["batch_norm"]) == pytest.approx(batch_norm, rel=1e-4)
    assert float(terms["input"]) == pytest.approx(gaussian, rel=1e-4)
    assert float(terms["total"]) == pytest.approx(batch_norm + gaussian, rel=1e-4)


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 28, 28), (4, 17, 30), (3, 5, 3), (2, 1, 9), (3, 224, 224)])
def test_images_have_the_inputs_shape_and_are_normalised(shape):
    generator = torch.Generator().manual_seed(0)
    draw, latents = ImageGenerator(shape, generator), torch.randn((2, 256), generator=generator)
    images = draw(latents)
    assert images.shape == (2, *shape)
    assert images.mean((0, 2, 3)).abs().max() < 1e-4 and (images.std((0, 2, 3), correction=0) - 1).abs().max() < 1e-2
    if shape[1] > 3:
        assert (images[0] - images[1]).abs().mean() > 0.1
    assert sum(value.numel() for value in draw.weights.values()) < 20_000_000


def test_latents_and_weights_are_both_optimised():
    images = GeneratedImages([InputSpec(name="x", shape=(1, 3, 16, 16), dtype="float32")], 2, torch.Generator().manual_seed(0))
    leaves = [*images.latents, *images.generators[0].weights.values()]
    before = [value.detach().clone() for value in leaves]
    images.prepare(0)
    images.render()[0].square().mul(torch.linspace(0, 1, 16)).sum().backward()
    images.advance(1.0)
    moves = [float((value.detach() - old).abs().max()) for value, old in zip(leaves, before, strict=True)]
    assert moves[0] == pytest.approx(0.1, rel=1e-3)
    assert all(move == pytest.approx(0.01, rel=0.02) for move in moves[1:])


def test_the_loss_falls_and_is_that_of_the_images():
    model = classifier()
    found = synthesize(model, QUICK)
    assert found.source == "generator" and found.network_hash == model.network_hash
    assert found.inputs[0].shape == (8, 3, 16, 16) and found.inputs[0].dtype == np.float32
    assert len(found.loss_curve) == 40 and set(found.loss_curve[0]) == {"total", "batch_norm", "input"}
    lowest = _lowest(found)
    assert lowest["total"] < 0.3 * found.loss_curve[0]["total"]
    assert _loss(model, found.inputs[0])[0] == pytest.approx(lowest["batch_norm"], rel=1e-3)


@pytest.mark.parametrize("swing", [True, False])
def test_a_seed_gives_the_same_bytes(swing):
    config = SynthesisConfig(source="generator", images=5, batch=2, steps=4, swing=swing)
    first, again, other = (synthesize(classifier(), config, seed=seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first.inputs[0], again.inputs[0])
    assert first.loss_curve == again.loss_curve and first.notes == again.notes
    assert (first.inputs[0] != other.inputs[0]).mean() > 0.99


def test_swing_makes_a_difference():
    with_swing, without = (
        synthesize(classifier(), SynthesisConfig(source="generator", images=2, steps=3, swing=swing)) for swing in (True, False)
    )
    assert with_swing.loss_curve != without.loss_curve


def test_without_batch_norm_the_note_says_what_is_left():
    found = synthesize(classifier(batch_norm=False), QUICK)
    assert all(terms["batch_norm"] == 0 for terms in found.loss_curve)
    assert any("no batch norm: only the input term is left" in note for note in found.notes)


def test_stopping_and_the_time_limit_keep_the_best_so_far():
    calls, events = itertools.count(), []
    config = SynthesisConfig(source="generator", images=6, batch=3, steps=20)
    found = synthesize(classifier(), config, should_stop=lambda: next(calls) >= 24, progress=events.append)
    assert len(found.loss_curve) == 25 and len(found) == 6 and "stopped by the user after 25 steps: 6 of 6 images" in found.notes[-1]
    assert [(e.stage, e.done, e.total) for e in events] == [("synthesis", i, 40) for i in range(1, 26)]
    limited = synthesize(classifier(), SynthesisConfig(source="generator", images=4, steps=100_000, swing=False, time_limit_s=0.5))
    assert 1 <= len(limited.loss_curve) < 100_000 and "time limit reached" in limited.notes[-1]
    assert _loss(classifier(), limited.inputs[0])[0] == pytest.approx(_lowest(limited)["batch_norm"], rel=1e-2)


def test_inputs_that_are_no_images_are_refused():
    def body(emit, x, p):
        return emit(R.matmul(x, p["dense.weight"]))

    model = build(body, [(1, 12)], {"dense.weight": np.ones((12, 8), np.float32)})
    with pytest.raises(CalibrationError, match=r"input x0 has shape \[1, 12\], expected images \(N, C, H, W\).*use retro-synthesis"):
        synthesize(model, QUICK)
    assert synthesize(model, SynthesisConfig(source="zeroq", images=3, steps=2)).inputs[0].shape == (3, 12)


def test_settings_that_it_does_not_use_are_named():
    found = synthesize(classifier(), SynthesisConfig(source="generator", images=2, steps=2, swing=False, learning_rate=0.5))
    assert "learning_rate: not used, source generator has its own" in found.notes


def test_a_network_that_computes_nan_is_refused():
    model = classifier()
    model.params["second.weight"][:] = np.nan
    with pytest.raises(CalibrationError, match="finite number"):
        synthesize(model, QUICK)


def test_cost_counts_what_the_generator_computes():
    spec = InputSpec(name="x", shape=(1, 3, 32, 32), dtype="float32")
    forward = 128 * 64 * 256 + 16 * 16 * 64 * 128 * 9 + 32 * 32 * 3 * 64 * 9
    assert generator_cost([spec]).macs == forward * 3 // 2


def test_the_budget_takes_more_steps_than_retro_synthesis_and_shrinks():
    small, large = NetworkCost(macs=10**6, value_bytes=10**6), NetworkCost(macs=20 * 10**9, value_bytes=4 * 10**8)
    plain = SynthesisConfig(source="generator")
    assert (plan_budget(small, plain, "instant").images, plan_budget(small, plain, "instant").steps) == (16, 500)
    reduced = plan_budget(large, plain, "instant")
    assert reduced.steps < 500 and "fewer than the usual" in reduced.notes[0] and reduced.images * reduced.steps * large.seconds < 600
    assert plan_budget(small, plain, "best").steps > 500
