"""Ways to find levels: optimal ones against brute force, the seed's against those, fixed ones by their values."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tvm_rsq.codebook.bins import binned
from tvm_rsq.codebook.clustered import clustered_levels, share_steps
from tvm_rsq.codebook.kmeans import best_levels, kmeans_levels, lloyd
from tvm_rsq.codebook.levels import nearest, squared_error, with_zero
from tvm_rsq.codebook.methods import METHODS

SHAPES = {
    "normal": lambda g, n: g.standard_normal(n),
    "laplace": lambda g, n: g.laplace(size=n),
    "student": lambda g, n: g.standard_t(3, n),
    "uniform": lambda g, n: g.uniform(-1, 1, n),
    "two heaps": lambda g, n: np.concatenate([g.normal(-2, 0.2, n // 2), g.normal(1, 0.5, n - n // 2)]),
}


def drawn(shape: str, count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    return np.sort(SHAPES[shape](generator, count)), generator.uniform(0.5, 2, count)


def best_of_all(values: np.ndarray, weights: np.ndarray, count: int) -> float:
    """Least squared error of any partition into intervals, one of them, which may be empty, around 0 and the others around their means."""
    least = np.inf
    for cuts in itertools.combinations_with_replacement(range(len(values) + 1), count - 1):
        around_mean, around_zero = [], []
        for part, w in zip(np.split(values, cuts), np.split(weights, cuts), strict=True):
            around_mean.append(float((w * np.square(part - np.average(part, weights=w))).sum()) if part.size else 0.0)
            around_zero.append(float((w * np.square(part)).sum()))
        least = min(least, sum(around_mean) + min(z - m for z, m in zip(around_zero, around_mean, strict=True)))
    return least


@given(st.lists(st.floats(-10, 10), min_size=5, max_size=9, unique=True), st.integers(3, 4), st.integers(0, 100))
@settings(max_examples=40, deadline=None)
def test_levels_are_the_best_of_all(numbers, count, seed):
    values = np.sort(np.array(numbers))
    weights = np.random.default_rng(seed).uniform(0.1, 3, len(values))
    found = best_levels(binned(values, weights, 512), count)
    assert len(found) <= count and (found == 0).any()
    assert squared_error(found, values, weights) == pytest.approx(best_of_all(values, weights, count), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("count", [8, 16, 64])
def test_binned_values_lose_next_to_nothing(shape, count):
    values, weights = drawn(shape, 20_000)
    whole = squared_error(kmeans_levels(values, weights, count), values, weights)
    # Another way to a good optimum: Lloyd from many quantile starts would not beat it by more than a little.
    starts = [with_zero(np.quantile(values, np.sort(np.random.default_rng(s).uniform(0, 1, count)))) for s in range(5)]
    others = min(squared_error(lloyd(start, values, weights, 300), values, weights) for start in starts)
    assert whole <= 1.002 * others


@pytest.mark.parametrize("shape", SHAPES)
def test_the_seeds_levels_are_near_the_best_and_uniform_in_few_clusters(shape):
    values, weights = drawn(shape, 20_000, 1)
    best = squared_error(kmeans_levels(values, weights, 16), values, weights)
    found = clustered_levels(values, weights, 16)
    assert squared_error(found, values, weights) <= 1.1 * best
    gaps = np.diff(found)
    kinds = 1 + int((~np.isclose(gaps[1:], gaps[:-1], rtol=1e-6)).sum())
    assert len(found) <= 16 and kinds <= 8 + 7 + 2, "at most 8 grids, the gaps between them, and zero's two"


@given(st.lists(st.tuples(st.integers(0, 50), st.floats(0, 5)), min_size=1, max_size=4), st.integers(0, 6))
@settings(max_examples=150, deadline=None)
def test_steps_are_the_best_of_all(clusters, more):
    counts, ranges = (np.array(side, np.float64) for side in zip(*clusters, strict=True))
    levels = len(clusters) + more
    found = share_steps(counts, ranges, levels)
    assert found.sum() == levels and found.min() >= 1

    def error(steps) -> float:
        return float((counts * np.square(ranges / np.array(steps))).sum())

    every = (steps for steps in itertools.product(range(1, levels + 1), repeat=len(clusters)) if sum(steps) == levels)
    assert error(found) == pytest.approx(min(map(error, every)), rel=1e-9, abs=1e-300)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("count", [8, 16, 64])
def test_levels_ascend_and_hold_zero(name, count):
    for values in (drawn("normal", 500)[0], np.full(7, 0.25), np.array([-3.0]), np.zeros(4), np.array([-1e-30, 1.0, 1e30])):
        found = METHODS[name].find(values, np.ones(len(values)), count)
        assert len(found) <= count and (np.diff(found) > 0).all() and (found == 0).any() and np.isfinite(found).all()


def test_less_values_than_levels_are_met_exactly():
    values = np.array([-2.0, -0.5, 0.0, 1.0, 3.0])
    found = kmeans_levels(np.repeat(values, 4), np.ones(20), 16)
    np.testing.assert_array_equal(found, values)


def test_no_values_and_too_few_levels_are_refused():
    for name in METHODS:
        with pytest.raises(ValueError, match="0 values on 16 levels, expected at least 1"):
            METHODS[name].find(np.empty(0), np.empty(0), 16)
        with pytest.raises(ValueError, match="3 levels"):
            METHODS[name].find(np.ones(3), np.ones(3), 2)


def test_fixed_levels():
    one = np.ones(1)
    np.testing.assert_allclose(METHODS["uniform"].find(one, one, 16), np.arange(-7, 8) / 7)
    np.testing.assert_allclose(METHODS["powers"].find(one, one, 16)[8:], 2.0 ** np.arange(-6, 1))
    np.testing.assert_allclose(METHODS["additive_powers"].find(one, one, 16)[8:] * 1.5, [0.0625, 0.25, 0.5, 0.5625, 0.75, 1, 1.5])


def test_nearest_takes_the_higher_of_two():
    assert nearest(np.array([0.0, 1.0, 4.0]), np.array([-5, 0.4, 0.5, 2.5, 9])).tolist() == [0, 0, 1, 2, 2]
