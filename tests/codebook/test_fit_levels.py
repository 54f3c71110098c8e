"""Float levels and scales of whole layers: closer than on the int8 grid, the same bits however often encoded, defined for all weights."""

from __future__ import annotations

import numpy as np
import pytest
from test_fit_codebook import KMEANS, layer

from tvm_rsq.codebook.fit_codebook import fit_codebook
from tvm_rsq.codebook.fit_levels import fit_levels
from tvm_rsq.codebook.scaled_levels import ScaledLevels
from tvm_rsq.errors import ConfigError, ModelError


def error(weights: np.ndarray, found: ScaledLevels, importance=1.0) -> float:
    return float((importance * np.square(weights.astype(np.float64) - found.products(found.codes(weights)))).sum())


@pytest.mark.parametrize("bits", [3, 4, 6])
def test_closer_than_on_the_int8_grid(bits):
    weights = layer()
    found, grid = fit_levels(weights, 2**bits, KMEANS), fit_codebook(weights, 2**bits, KMEANS)
    on_grid = np.square(weights - grid.integers * grid.scale.astype(np.float64)[:, None]).sum()
    assert found.bits == bits and error(weights, found) < (0.9 if bits == 6 else 1.0) * on_grid
    assert found.levels.dtype == found.scale.dtype == np.float32 and found.scale.shape == (24,) and (found.scale > 0).all()
    assert (np.diff(found.levels) >= 0).all() and 0 in found.levels and np.abs(found.levels).max() == 1


def test_codes_are_the_closest_of_all_products():
    weights = layer(7, 31)
    found = fit_levels(weights, 8, KMEANS)
    codes = found.codes(weights)
    every = found.scale.astype(np.float64)[:, None, None] * found.levels
    np.testing.assert_allclose(np.abs(weights - found.products(codes)), np.abs(weights[..., None] - every).min(-1), atol=1e-7)
    once_rounded = (found.scale.astype(np.float64)[:, None] * found.levels.astype(np.float64)[codes]).astype(np.float32)
    np.testing.assert_array_equal(found.products(codes), once_rounded)


def test_products_encode_to_themselves():
    levels = np.array([-1, -0.1, 0, np.nextafter(np.float32(0.3), np.float32(0)), 0.3, 0.7, 1, 1], np.float32)  # two of them neighbours
    found = ScaledLevels(levels=levels, scale=np.geomspace(1e-44, 1e38, 500).astype(np.float32))
    made = found.products(np.tile(np.arange(8, dtype=np.uint8), (500, 1)))
    np.testing.assert_array_equal(found.products(found.codes(made)), made)


def test_importance_moves_the_error_to_where_it_counts_less():
    weights, importance = layer(), np.geomspace(1e-3, 1, 200)
    plain, weighted = (fit_levels(weights, 16, KMEANS, importance=of) for of in (None, importance))
    assert error(weights, weighted, importance) < 0.97 * error(weights, plain, importance)


@pytest.mark.parametrize("weights", [
    np.zeros((3, 5)), np.full((4, 6), 0.3), np.full((4, 6), -0.3), [[2.0]], [[-3.4e38, 3.4e38]], [[0.0], [-1e-20]], [[1e-40, -1e-40]],
    [[0.0, 0.0], [1.0, -1.0]], np.random.default_rng(0).choice([-1.0, 0.5, 2], (5, 40)), [[1e6, 1e-3, 2e-3, -1e-3]],
])  # fmt: skip
def test_odd_weights_have_defined_results_and_few_values_are_met(weights):
    weights = np.array(weights, np.float32)
    found = fit_levels(weights, 16, KMEANS)
    assert len(found.levels) == 16 and np.isfinite(found.scale).all() and (found.scale > 0).all()
    assert not np.signbit(found.levels[found.levels == 0]).any()
    np.testing.assert_allclose(found.products(found.codes(weights)), weights, rtol=1e-6, atol=0)


def test_a_channel_that_float32_cannot_scale_is_zero():
    weights = np.array([[1e-45, 0], [2, 1]], np.float32)
    made = fit_levels(weights, 8, KMEANS)
    assert (made.scale > 0).all() and np.abs(made.products(made.codes(weights)) - weights).max() <= 1.5e-45


def test_the_same_weights_give_the_same_levels():
    one, two = (fit_levels(layer(), 16, KMEANS) for _ in range(2))
    assert one.levels.tobytes() == two.levels.tobytes() and one.scale.tobytes() == two.scale.tobytes()


def test_what_is_no_layer_is_refused():
    bad = layer()
    bad[3, 4] = np.nan
    with pytest.raises(ModelError, match="NaN or infinity"):
        fit_levels(bad, 16, KMEANS)
    with pytest.raises(ConfigError, match=r"weights of shape \(0, 4\)"):
        fit_levels(np.empty((0, 4), np.float32), 16, KMEANS)
    with pytest.raises(ConfigError, match="importance of shape"):
        fit_levels(layer(), 16, KMEANS, importance=np.zeros(200))
