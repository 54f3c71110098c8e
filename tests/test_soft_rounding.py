"""Soft roundings and learned scales: where they start, what their gradients say, and where they end."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tvm_rsq.learned_scale import LearnedScale
from tvm_rsq.soft_rounding import SoftRounding, annealed_beta
from tvm_rsq.tensor_quant import TensorQuant
from tvm_rsq.uniform import fake_quantize, fake_quantize_weight, weight_scale
from tvm_rsq.weight_grid import WeightGrid


def _weight(shape=(6, 5), seed=0) -> tuple[torch.Tensor, np.ndarray]:
    weight = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    return torch.from_numpy(weight), weight_scale(weight, 0, 4) * np.float32(0.7)


def grid(scale: np.ndarray, books: np.ndarray | None = None) -> WeightGrid:
    return WeightGrid(scale=scale, bits=4, books=books)


def test_without_a_rounding_it_starts_at_the_real_weight_within_the_range_and_hardens_to_nearest():
    weight, scale = _weight()
    rounding = SoftRounding(weight, grid(scale), 0)
    inside = (weight.abs() <= 7 * torch.from_numpy(scale)[:, None]).numpy()
    assert not inside.all()  # the scale clips some
    np.testing.assert_allclose(rounding.weight().detach().numpy()[inside], weight.numpy()[inside], atol=1e-3)
    np.testing.assert_array_equal(rounding.hard().numpy(), fake_quantize_weight(weight.numpy(), scale, 0, 4))


@pytest.mark.parametrize("axis, scales", [(0, 6), (1, 5), (0, 1)])
def test_hard_weights_are_whole_multiples_of_the_scale_within_the_levels(axis, scales):
    weight, _ = _weight()
    scale = np.linspace(0.11, 0.2, scales, dtype=np.float32)
    rounding = SoftRounding(weight, grid(scale), axis)
    with torch.no_grad():
        rounding.v.copy_(torch.randn(rounding.v.shape, generator=torch.Generator().manual_seed(1)) * 9)
    along = scale.reshape([-1 if i == axis and scales > 1 else 1 for i in range(2)])
    hard = rounding.hard().numpy()
    q = np.rint(hard / along)
    assert hard.dtype == np.float32 and np.abs(q).max() <= 7
    np.testing.assert_array_equal(hard, (q * along).astype(np.float32))
    soft = rounding.weight().detach().numpy()
    assert (np.abs(soft - hard) <= along * 0.5 + 1e-6).all()


def test_a_rounding_that_is_given_is_what_it_starts_from_also_where_it_is_far():
    weight, scale = _weight()
    q = (weight / torch.from_numpy(scale)[:, None]).round().clamp(-7, 7)
    q = (q + torch.randint(-3, 4, q.shape, generator=torch.Generator().manual_seed(2))).clamp(-7, 7)
    given = torch.from_numpy(scale)[:, None] * q
    rounding = SoftRounding(weight, grid(scale), 0, rounded=given)
    np.testing.assert_array_equal(rounding.hard().numpy(), given.numpy())
    # It can still move by one step, towards the real weight.
    assert ((rounding.base == q) | (rounding.base == q - 1)).all()
    assert rounding.base.min() >= -7 and rounding.base.max() <= 6


def test_the_penalty_is_zero_at_the_ends_and_pushes_to_the_nearer_one():
    weight, scale = _weight()
    rounding = SoftRounding(weight, grid(scale), 0)
    before = rounding.weight().detach()
    (gradient,) = torch.autograd.grad(rounding.penalty(2.0), rounding.v)
    away = (rounding.hard() - before) > 0
    moving = gradient.abs() > 1e-9
    assert moving.any() and ((gradient < 0) == away)[moving].all()
    with torch.no_grad():
        rounding.v.copy_(torch.where(rounding.v > 0, 9.0, -9.0))
    assert float(rounding.penalty(2.0).detach()) == pytest.approx(0, abs=1e-6)
    assert annealed_beta(0.1) is None and annealed_beta(0.2) == 20 and annealed_beta(1.0) == 2


def test_gradients_reach_undecided_elements():
    weight, scale = _weight()
    rounding = SoftRounding(weight, grid(scale), 0)
    rounding.weight().sum().backward()
    undecided = (weight / torch.from_numpy(scale)[:, None]).abs() < 7
    assert (rounding.v.grad[undecided] > 0).float().mean() > 0.8


@pytest.mark.parametrize("zero_point", [0, 5])
def test_a_learned_scale_rounds_as_the_grid_does_and_has_the_gradients_of_lsq(zero_point):
    quant = TensorQuant(scale=0.25, zero_point=zero_point, bits=4)
    value = torch.linspace(-3, 5, 81).mul(0.999).requires_grad_()
    scale = LearnedScale(quant.scale)
    made = scale.quantize(value, quant)
    np.testing.assert_allclose(made.detach().numpy(), fake_quantize(value.detach().numpy(), quant), atol=1e-6)
    assert scale.learned(quant) == quant
    weights = torch.linspace(1, 2, 81)
    (made * weights).sum().backward()
    steps = (value.detach() / 0.25).round()
    low, high = steps < -zero_point, steps > 15 - zero_point
    inside = ~low & ~high
    torch.testing.assert_close(value.grad, weights * inside)
    per_element = torch.where(low, -zero_point, torch.where(high, 15 - zero_point, steps - value.detach() / 0.25))
    torch.testing.assert_close(scale.t.grad, (weights * per_element * 0.25).sum(), rtol=1e-4, atol=1e-4)
