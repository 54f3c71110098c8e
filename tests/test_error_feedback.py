"""Rounding with error feedback: on the grid, better than to nearest where inputs are correlated, best where rows are tiny."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tvm_rsq.error_feedback import round_with_feedback
from tvm_rsq.layer_moments import covariance


def case(groups: int, rows: int, size: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Weights (groups * rows, size), moments of correlated inputs, scales."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(groups * rows, size, generator=generator, dtype=torch.float64)
    mix = torch.randn(groups, size, size, generator=generator, dtype=torch.float64)
    return weight, mix @ mix.transpose(1, 2) / size, weight.abs().amax(1) / 7


def error(q: torch.Tensor, weight: torch.Tensor, moments: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """(rows,) of each row's quadratic form."""
    delta = (q * scale[:, None] - weight).reshape(len(moments), -1, weight.shape[1])
    return torch.einsum("gri,gij,grj->gr", delta, moments, delta).reshape(-1)


@pytest.mark.parametrize(("groups", "rows", "size"), [(1, 5, 300), (1, 3, 64), (6, 1, 9), (4, 3, 25), (1, 1, 1)])
def test_whole_numbers_within_the_levels_and_less_error_than_to_nearest(groups, rows, size):
    weight, moments, scale = case(groups, rows, size)
    q = round_with_feedback(weight, moments, scale, 7)
    assert torch.equal(q, q.round()) and float(q.abs().max()) <= 7
    nearest = (weight / scale[:, None]).round().clamp(-7, 7)
    assert error(q, weight, moments, scale).sum() <= error(nearest, weight, moments, scale).sum()
    if size > 9:
        assert error(q, weight, moments, scale).sum() < 0.6 * error(nearest, weight, moments, scale).sum()


def test_tiny_rows_are_close_to_the_best_of_all_roundings():
    weight, moments, scale = case(8, 1, 3)
    grid = torch.tensor(list(itertools.product(range(-3, 4), repeat=3)), dtype=torch.float64)
    scale = weight.abs().amax(1) / 3
    best = torch.stack(
        [error(grid, w.expand_as(grid), m[None], s.expand(len(grid))).min() for w, m, s in zip(weight, moments, scale, strict=True)]
    )
    found = error(round_with_feedback(weight, moments, scale, 3), weight, moments, scale)
    assert float(found.sum()) <= 1.1 * float(best.sum())


def test_uncorrelated_inputs_are_rounded_to_nearest():
    weight, _, scale = case(1, 4, 50)
    q = round_with_feedback(weight, torch.eye(50, dtype=torch.float64)[None], scale, 7)
    assert torch.equal(q, (weight / scale[:, None]).round())


def test_directions_that_no_image_had_do_not_matter():
    weight, moments, scale = case(1, 4, 40)
    moments[:, 20:] = moments[:, :, 20:] = 0
    assert np.isfinite(round_with_feedback(weight, moments, scale, 7).numpy()).all()


@pytest.mark.parametrize("values", ["constant", "one position", "huge", "zero"])
def test_inputs_that_hardly_vary_and_huge_ones_can_be_rounded_for(values):
    """A dead layer behind, a single image, and the like."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(64, 40, generator=generator)
    x = {"constant": torch.full_like(x, 3.7), "one position": x[:1], "huge": x * 1e20, "zero": x * 0}[values]
    moments = covariance(SimpleNamespace(op="relax.matmul"), None, x, (1, 1))
    assert torch.isfinite(moments).all() and (moments.diagonal(dim1=1, dim2=2) >= 0).all()
    weight = torch.randn(5, 40, generator=generator, dtype=torch.float64)
    q = round_with_feedback(weight, moments, weight.abs().amax(1) / 7, 7)
    assert torch.isfinite(q).all()
