"""Codebooks and scales of whole layers: closer than uniform weights, on the int8 grid, defined for whatever weights there are."""

from __future__ import annotations

import numpy as np
import pytest

from tvm_rsq.codebook.encode import codes, encode
from tvm_rsq.codebook.fit_codebook import fit_codebook, levels_for_scale
from tvm_rsq.codebook.levels_and_scales import sample
from tvm_rsq.codebook.methods import METHODS
from tvm_rsq.errors import ConfigError, ModelError
from tvm_rsq.uniform import fake_quantize_weight, mse_weight_scale

KMEANS = METHODS["kmeans"]


def layer(rows: int = 24, columns: int = 200, seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return (generator.laplace(size=(rows, columns)) * np.geomspace(0.01, 1, rows)[:, None]).astype(np.float32)


def error(weights: np.ndarray, found, importance=1.0) -> float:
    return float((importance * np.square(weights - found.integers * found.scale.astype(np.float64)[:, None])).sum())


@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize("bits", [3, 4, 6])
@pytest.mark.parametrize("name", ["kmeans", "clustered"])
def test_closer_than_the_best_uniform_grid(name, bits, per_channel):
    weights = layer()
    found = fit_codebook(weights, 2**bits, METHODS[name], per_channel=per_channel)
    uniform = fit_codebook(weights, 2**bits, METHODS["uniform"], per_channel=per_channel)
    assert error(weights, found) < 0.9 * error(weights, uniform)
    assert len(found.scale) == (24 if per_channel else 1) and found.scale.dtype == np.float32 and (found.scale > 0).all()


def test_a_uniform_codebook_is_as_close_as_clipped_uniform_weights():
    weights = layer()
    clipped = np.square(weights - fake_quantize_weight(weights, mse_weight_scale(weights, 0, 4), 0, 4).astype(np.float64)).sum()
    assert error(weights, fit_codebook(weights, 16, METHODS["uniform"])) < 1.01 * clipped


def test_entries_are_on_the_grid_and_codes_lead_to_them():
    weights = layer()
    found = fit_codebook(weights, 16, KMEANS, channels=10)
    assert found.books.shape == (3, 16) and found.books.dtype == found.integers.dtype == np.int8
    assert (np.diff(found.books.astype(int), axis=1) >= 0).all() and (found.books == 0).any(axis=1).all()
    assert (np.abs(found.books.astype(int)).max(axis=1) == 127).all()
    np.testing.assert_array_equal(found.integers, encode(weights, found.scale, found.books))
    code = codes(found.integers, found.books)
    assert code.max() < 16
    again = np.concatenate([book[code[start : start + 8]] for book, start in zip(found.books, (0, 8, 16), strict=True)])
    np.testing.assert_array_equal(again, found.integers)


def test_more_books_are_closer():
    weights = np.concatenate([layer(16, 300, 1), np.random.default_rng(2).uniform(-1, 1, (16, 300)).astype(np.float32)])
    whole, halves = (fit_codebook(weights, 16, KMEANS, channels=channels) for channels in (None, 16))
    assert error(weights, halves) < 0.97 * error(weights, whole)


@pytest.mark.parametrize("channels", [5, 7, 10, 17])
def test_books_are_fitted_for_the_channels_that_use_them(channels):
    weights = layer(24, 300)
    whole, some = (fit_codebook(weights, 16, KMEANS, channels=of) for of in (None, channels))
    assert error(weights, some) < error(weights, whole)


def test_levels_are_found_on_every_column():
    """One column in 512 x 4608 that is unlike all others."""
    generator = np.random.default_rng(0)
    weights, worth = generator.standard_normal((512, 4608)), np.ones((512, 4608))
    weights[:, 7] = 50
    values, _ = sample(weights, worth, np.ones(512))
    assert len(values) > 2**17 and (values == 50).sum() > 10


@pytest.mark.parametrize("channels", [None, 5, 24])
def test_books_for_given_scales_are_those_of_each_ones_channels(channels):
    weights, scale = layer(24, 300), np.geomspace(0.01, 1, 24).astype(np.float32) / 20
    books = levels_for_scale(weights, scale, 16, KMEANS, channels=channels)
    size = channels or 24
    assert books.shape == (-(-24 // size), 16) and books.dtype == np.int8
    for book, start in zip(books, range(0, 24, size), strict=True):
        span = slice(start, start + size)
        np.testing.assert_array_equal(levels_for_scale(weights[span], scale[span], 16, KMEANS)[0], book)


def test_importance_moves_the_error_to_where_it_counts_less():
    weights, importance = layer(), np.geomspace(1e-3, 1, 200)
    plain, weighted = (fit_codebook(weights, 16, KMEANS, importance=of) for of in (None, importance))
    assert error(weights, weighted, importance) < 0.97 * error(weights, plain, importance)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("per_channel", [True, False])
def test_odd_weights_have_defined_results(name, per_channel):
    for weights in (
        np.zeros((3, 5)), np.full((4, 6), 0.3), np.full((4, 6), -0.3), np.array([[2.0]]), np.array([[0.0], [-1e-20]]),
        np.array([[1e6, 1e-3, 2e-3, -1e-3]]), np.array([[0.0, 0.0], [1.0, -1.0]]), np.random.default_rng(0).choice([-1.0, 0.5, 2], (5, 40)),
    ):  # fmt: skip
        found = fit_codebook(weights.astype(np.float32), 16, METHODS[name], per_channel=per_channel)
        assert np.isfinite(found.scale).all() and (found.scale > 0).all()
        left = np.square(weights - found.integers * found.scale.astype(np.float64)[:, None]).sum()
        few = len(np.unique(weights)) <= 2 and np.abs(weights).max() > 1e-6
        assert left <= np.square(weights).sum() * (1e-3 if few and name != "powers" else 1 + 1e-6)


def test_a_few_values_are_met_to_the_grids_precision():
    weights = np.random.default_rng(0).choice([-1.0, 0.0, 0.25, 0.5, 2], (6, 80)).astype(np.float32)
    found = fit_codebook(weights, 16, KMEANS)
    np.testing.assert_allclose(found.integers * found.scale[:, None], weights, atol=1 / 127)  # half a step of a grid that reaches 2


def test_scales_keep_to_their_floor():
    weights = layer()
    floor = np.full(24, 0.02)
    for per_channel in (False, True):
        found = fit_codebook(weights, 16, KMEANS, per_channel=per_channel, floor=floor)
        assert (found.scale >= np.float32(0.02)).all()
    assert (found.scale == np.float32(0.02)).any()


def test_the_same_weights_give_the_same_books():
    one, two = (fit_codebook(layer(), 16, METHODS["clustered"], channels=8) for _ in range(2))
    assert one.books.tobytes() == two.books.tobytes() and one.scale.tobytes() == two.scale.tobytes()


def test_what_is_no_layer_is_refused():
    bad = layer()
    bad[3, 4] = np.nan
    with pytest.raises(ModelError, match="NaN or infinity"):
        fit_codebook(bad, 16, KMEANS)
    with pytest.raises(ConfigError, match=r"weights of shape \(0, 4\)"):
        fit_codebook(np.empty((0, 4), np.float32), 16, KMEANS)
    for importance in (np.ones(3), np.full(200, -1.0), np.zeros(200), np.full(200, np.nan)):
        with pytest.raises(ConfigError, match="importance of shape"):
            fit_codebook(layer(), 16, KMEANS, importance=importance)
    with pytest.raises(ConfigError, match="not all in their codebook"):
        codes(np.array([[5]], np.int8), np.array([[0, 3, 7]], np.int8))
