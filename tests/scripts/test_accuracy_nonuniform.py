"""scripts/accuracy: the seed's codebooks hand out levels as well as any way to hand them out, and keep zero."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from scripts.accuracy.seed_nonuniform import clusters, codebook, nearest, quantize_nonuniform, share
from tvm_rsq.uniform import fake_quantize_weight, mse_weight_scale

RNG = np.random.default_rng(0)


def error(counts: np.ndarray, ranges: np.ndarray, shares: tuple[int, ...]) -> float:
    return float((counts * (ranges / np.array(shares)) ** 2).sum())


@pytest.mark.parametrize("seed", range(20))
def test_no_other_way_to_hand_out_levels_has_less_error(seed: int) -> None:
    rng = np.random.default_rng(seed)
    count, levels = int(rng.integers(1, 5)), 12
    counts, ranges = rng.integers(1, 1000, count), rng.uniform(0, 2, count)
    found = share(counts, ranges, levels)
    least = min(error(counts, ranges, s) for s in product(range(1, levels + 1), repeat=count) if sum(s) == levels)
    assert found.sum() == levels and found.min() >= 1
    assert error(counts, ranges, tuple(found)) == pytest.approx(least, rel=1e-12)


def test_shares_follow_the_cube_root_where_there_are_many_levels() -> None:
    counts, ranges = np.array([1000, 10, 300]), np.array([0.1, 2.0, 0.5])
    expected = np.cbrt(counts * ranges**2)
    found = share(counts, ranges, 3000)
    np.testing.assert_allclose(found / 3000, expected / expected.sum(), atol=1e-3)


def test_a_value_goes_to_its_nearest_level() -> None:
    book, values = np.sort(RNG.standard_normal(7)), RNG.standard_normal(500)
    expected = book[np.abs(values[:, None] - book).argmin(1)]
    np.testing.assert_array_equal(nearest(book, values), expected)


def test_clusters_are_slices_around_their_own_means() -> None:
    ordered = np.sort(np.concatenate([RNG.normal(centre, 0.01, 50) for centre in (-1.0, 0.0, 3.0)]))
    parts = clusters(ordered, 3)
    assert [len(part) for part in parts] == [50, 50, 50]
    np.testing.assert_array_equal(np.concatenate(parts), ordered)
    assert [len(part) for part in clusters(np.zeros(5), 3)] == [5]  # no empty ones


@pytest.mark.parametrize("bits", [4, 6])
def test_a_codebook_has_so_many_levels_and_zero_among_them(bits: int) -> None:
    book = codebook(RNG.standard_normal(2000), 2**bits)
    assert len(book) == 2**bits and 0.0 in book and (np.diff(book) > 0).all()


def test_heavy_tails_are_where_it_pays() -> None:
    weight = RNG.standard_t(3, (64, 32)).astype(np.float32)
    uniform = fake_quantize_weight(weight, mse_weight_scale(weight, None, 4), None, 4)
    found = quantize_nonuniform(weight, 4, None)
    assert len(np.unique(found)) <= 16
    assert np.square(found - weight).mean() < 0.7 * np.square(uniform - weight).mean()


@pytest.mark.parametrize("axis", [0, 1])
def test_channels_are_scaled_by_their_largest_and_zeros_stay(axis: int) -> None:
    weight = RNG.standard_normal((8, 8)).astype(np.float32)
    weight[3], weight[:, 5] = 0, 0
    small = np.ones(8, np.float32)
    small[2] = 2.0**-10
    scaled = weight * (small[:, None] if axis == 0 else small)
    found = quantize_nonuniform(scaled, 4, axis)
    expected = quantize_nonuniform(weight, 4, axis) * (small[:, None] if axis == 0 else small)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert found.dtype == np.float32 and not found[3].any() and not found[:, 5].any()


def test_nothing_to_quantize_is_told() -> None:
    with pytest.raises(ValueError, match="0 weights on 16 levels"):
        codebook(np.empty(0), 16)
