"""scripts/accuracy: the seed's codebooks have their levels, keep zero, and pay where tails are heavy."""

from __future__ import annotations

import numpy as np
import pytest

from scripts.accuracy.seed_nonuniform import clusters, codebook, quantize_nonuniform
from tvm_rsq.uniform import fake_quantize_weight, mse_weight_scale

RNG = np.random.default_rng(0)


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
