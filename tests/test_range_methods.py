"""Ranges from histograms: what each method keeps of a tensor, against searches of their own."""

from __future__ import annotations

import numpy as np
import pytest

from tvm_rsq.range_methods import NARROW, least_divergence, least_squares, percentile
from tvm_rsq.uniform import activation_quant, fake_quantize

BINS = 2048


def histogram(values: np.ndarray) -> tuple[np.ndarray, float, float]:
    low, high = float(values.min()), float(values.max())
    return np.histogram(values, BINS, (low, high))[0].astype(np.float64), low, high


def heavy_tailed(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_t(3, 20_000).astype(np.float32)


@pytest.mark.parametrize("name", NARROW)
@pytest.mark.parametrize("bits", [4, 8])
def test_a_range_is_within_what_was_seen_and_holds_zero(name, bits):
    values = heavy_tailed()
    low, high = NARROW[name](*histogram(values), bits)
    assert values.min() <= low < 0 < high <= values.max()


@pytest.mark.parametrize("bits", [4, 6, 8])
def test_least_squares_is_as_good_as_the_best_ratio_on_the_values_themselves(bits):
    values = heavy_tailed()
    counts, low, high = histogram(values)

    def error(a: float, b: float) -> float:
        return float(np.square(values - fake_quantize(values, activation_quant(a, b, bits))).mean())

    best = min(error(low * ratio, high * ratio) for ratio in np.linspace(1, 0.2, 64))
    assert error(*least_squares(counts, low, high, bits)) <= 1.02 * best
    assert error(*least_squares(counts, low, high, bits)) < error(low, high)


def test_divergence_keeps_the_whole_of_a_uniform_distribution_and_cuts_a_heavy_tail():
    uniform = np.linspace(-1, 1, 100_000)
    assert least_divergence(*histogram(uniform), 8) == pytest.approx((-1, 1))
    counts, low, high = histogram(heavy_tailed())
    assert least_divergence(counts, low, high, 4)[1] < 0.7 * high


def test_percentile_leaves_one_value_in_ten_thousand_out():
    values = np.concatenate([np.linspace(0, 1, 100_000), [100.0]])
    low, high = percentile(*histogram(values), 8)
    assert low == 0
    assert 0.9 < high < 1.2


def test_divergence_sees_past_the_zeros_of_a_relu():
    values = np.abs(np.random.default_rng(0).standard_normal(20_000)).astype(np.float32)
    values[0] = 0
    with_zeros = np.concatenate([values, np.zeros(20_000, np.float32)])
    assert least_divergence(*histogram(with_zeros), 8) == least_divergence(*histogram(values), 8)


def test_divergence_does_not_take_the_noise_of_few_values_in_fine_bins_for_shape():
    values = np.random.default_rng(0).standard_normal(4_000).astype(np.float32)
    low, high = float(values.min()), float(values.max())
    counts = np.histogram(values, 8192, (low, high))[0].astype(np.float64)
    assert least_divergence(counts, low, high, 8)[1] > 0.8 * high


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("low", [1.7, -1.8])
def test_values_that_are_all_far_from_zero_keep_their_range(low, bits):
    """Of a tensor that is nearly constant; parts of it end before its values begin."""
    counts = np.zeros(BINS)
    counts[[0, -1]] = 5
    assert least_divergence(counts, low, low + 0.1, bits) == (low, low + 0.1)
