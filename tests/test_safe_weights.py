"""The promise of accumulate16: kept always, by the least change, and nothing changed where it holds already."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tvm_rsq.safe_weights import keeps_promise, quantize_safely, squared_errors
from tvm_rsq.sum_groups import fits
from tvm_rsq.uniform import quantize_weight

BLOCKS = st.sampled_from([1, 2, 4])


def promised(q: np.ndarray, d: int) -> bool:
    """By the docstring of Conv2DWorkload, in loops."""
    for row in q.astype(int):
        for block in row.reshape(-1, 4 * d):
            for positions in ((0, 1), (2, 3)):
                group = [value for i, value in enumerate(block) if i % 4 in positions]
                if sum(v for v in group if v > 0) > 128 or sum(v for v in group if v < 0) < -128:
                    return False
    return True


def weights(seed: int, d: int, gain: float) -> np.ndarray:
    return (gain * np.random.default_rng(seed).standard_normal((3, 8 * d))).astype(np.float32)


@given(st.integers(0, 2**16), BLOCKS, st.sampled_from([5.0, 40.0, 90.0, 1000.0]), st.sampled_from([4, 6, 7, 8]))
def test_the_promise_is_kept_and_recognised(seed, d, gain, bits):
    w, one = weights(seed, d, gain), np.ones(1, np.float32)
    q = quantize_safely(w, one, bits, d)
    assert promised(q, d) and keeps_promise(q, d) and np.abs(q.astype(int)).max() <= 2 ** (bits - 1) - 1
    plain = quantize_weight(w, one, 0, bits)
    assert keeps_promise(plain, d) == promised(plain, d)
    if promised(plain, d):
        np.testing.assert_array_equal(q, plain)
    (errors,) = squared_errors(w, [one], bits, d)
    np.testing.assert_allclose(errors, np.square(w - q.astype(np.float32)).sum(axis=1), rtol=1e-5, atol=1e-6)


@given(st.integers(0, 2**16), st.sampled_from([60.0, 120.0, 300.0]))
def test_no_integers_that_keep_it_are_nearer(seed, gain):
    """Against all of them, for pairs: D = 1."""
    w = np.clip(gain * np.random.default_rng(seed).standard_normal((1, 4)), -127, 127).astype(np.float32)
    q = quantize_safely(w, np.ones(1, np.float32), 8, 1)[0].astype(int)
    grid = np.arange(-127, 128)
    a, b = np.meshgrid(grid, grid, indexing="ij")
    allowed = (np.maximum(a, 0) + np.maximum(b, 0) <= 128) & (np.minimum(a, 0) + np.minimum(b, 0) >= -128)
    for first in (0, 2):
        distance = np.where(allowed, np.square(a - w[0, first]) + np.square(b - w[0, first + 1]), np.inf)
        ours = np.square(q[first] - w[0, first]) + np.square(q[first + 1] - w[0, first + 1])
        assert ours <= distance.min() * (1 + 1e-5) + 1e-3


@pytest.mark.parametrize("d", [1, 2, 4])
def test_the_extremes(d):
    for signs in itertools.product((-127.0, 127.0, 0.0), repeat=2):
        w = np.tile(np.array(signs, np.float32), (1, 8 * d))
        assert promised(quantize_safely(w, np.ones(1, np.float32), 8, d), d)
    assert not keeps_promise(np.full((1, 8 * d), 65), d) and keeps_promise(np.full((1, 8 * d), 64 // d), d)


def test_each_channel_has_its_scale_and_pieces_do_not_matter(monkeypatch):
    w, scale = weights(0, 2, 90.0), np.array([1.0, 2.0, 0.5], np.float32)
    whole = quantize_safely(w, scale, 8, 2), next(squared_errors(w, [scale], 8, 2))
    for row in range(3):
        np.testing.assert_array_equal(whole[0][row], quantize_safely(w[row : row + 1], scale[row : row + 1], 8, 2)[0])
    monkeypatch.setattr("tvm_rsq.safe_weights._PIECE", 16)
    np.testing.assert_array_equal(quantize_safely(w, scale, 8, 2), whole[0])
    np.testing.assert_allclose(next(squared_errors(w, [scale], 8, 2)), whole[1], rtol=1e-6)


def test_seven_bits_promise_pairs_and_six_bits_promise_four():
    for bits, d in ((7, 1), (6, 2), (4, 4)):
        assert keeps_promise(np.full((1, 8 * d), 2 ** (bits - 1) - 1), d)
    for bits, d in ((8, 1), (7, 2), (6, 4)):
        assert not keeps_promise(np.full((1, 8 * d), 2 ** (bits - 1) - 1), d)


def promised_to_neon(q: np.ndarray, block: int, inner: int) -> bool:
    """By the docstring of Conv2DWorkload, in loops."""
    size, every = (block // 8, 1) if inner == 1 else (block, 8)
    for row in np.abs(q.astype(int)).tolist():
        for start in range(0, len(row), size):
            part = row[start : start + size]
            if any(sum(part[first::every]) > 255 for first in range(every)):
                return False
    return True


@given(st.integers(0, 2**16), st.sampled_from([32, 64]), st.sampled_from([0, 1]), st.integers(1, 150), st.sampled_from([40.0, 90.0, 999.0]))
def test_the_promise_to_neon_is_kept_and_recognised(seed, block, inner, run, gain):
    w = (gain * np.random.default_rng(seed).standard_normal((3, run))).astype(np.float32)
    one = np.ones(1, np.float32)
    q = quantize_safely(w, one, 8, block, inner)
    assert promised_to_neon(q, block, inner) and keeps_promise(q, block, inner) and np.abs(q.astype(int)).max() <= 127
    plain = quantize_weight(w, one, 0, 8)
    assert keeps_promise(plain, block, inner) == promised_to_neon(plain, block, inner)
    if promised_to_neon(plain, block, inner):
        np.testing.assert_array_equal(q, plain)
    (errors,) = squared_errors(w, [one], 8, block, inner)
    np.testing.assert_allclose(errors, np.square(w - q.astype(np.float32)).sum(axis=1), rtol=1e-5, atol=1e-6)


def test_seven_bits_promise_four_products_to_neon_and_six_bits_eight():
    for bits, block in ((7, 32), (6, 64)):
        assert keeps_promise(np.full((1, 64), 2 ** (bits - 1) - 1), block)
        assert not keeps_promise(np.full((1, 64), 2**bits - 1), block)


def test_where_blocks_fit():
    assert fits(16, 144, 4) and not fits(8, 72, 4) and not fits(3, 27, 1) and not fits(16, 144, 0)
    assert fits(24, 24, 32) and fits(1, 9, 32) and fits(64, 576, 64)
    assert not fits(24, 216, 32) and not fits(32, 288, 64) and not fits(1, 1, 32)
