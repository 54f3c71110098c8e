"""The clipped normal's mean against samples, against quadrature, and at its limits."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm

from tvm_rsq.clipped_normal import clipped_normal_mean

BOUNDS = [(0.0, math.inf), (0.0, 6.0), (-math.inf, math.inf), (-math.inf, 1.0), (-0.5, 0.25)]


@pytest.mark.parametrize(("low", "high"), BOUNDS)
def test_against_samples(low, high):
    z = np.random.default_rng(0).standard_normal(200_000)
    for mean, std in [(0.0, 1.0), (1.5, 0.5), (-2.0, 1.0), (5.0, 3.0), (0.3, 20.0)]:
        sampled = np.clip(mean + std * z, low, high)
        # five deviations of a mean of that many samples
        assert clipped_normal_mean(mean, std, low, high) == pytest.approx(sampled.mean(), abs=5 * std / math.sqrt(len(z)))


@pytest.mark.parametrize(("low", "high"), BOUNDS)
def test_against_quadrature(low, high):
    mean, std = np.meshgrid([-3.0, -0.2, 0.0, 1.0, 7.0], [0.1, 1.0, 4.0])
    found = clipped_normal_mean(mean, std, low, high)
    for m, s, value in zip(mean.ravel(), std.ravel(), found.ravel(), strict=True):
        edges = [edge for edge in (low, high) if m - 12 * s < edge < m + 12 * s]
        exact = quad(lambda x, m=m, s=s: min(max(x, low), high) * norm.pdf(x, m, s), m - 12 * s, m + 12 * s, points=edges, limit=200)[0]
        assert value == pytest.approx(exact, abs=1e-7)


def test_constants_are_clipped():
    np.testing.assert_array_equal(clipped_normal_mean(np.array([-1.0, 2.0, 9.0]), np.zeros(3), 0.0, 6.0), [0, 2, 6])


def test_far_from_the_bounds_it_is_the_mean_or_the_bound():
    np.testing.assert_allclose(clipped_normal_mean(np.array([-50.0, 3.0, 50.0]), np.full(3, 0.01), 0.0, 6.0), [0, 3, 6], atol=1e-12)
