"""Multipliers, folded biases and bounds against integers of unlimited size."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tvm_rsq.passes.requantization import BOUNDED, SHORT, fixed_point, folded_bias, is_bounded, largest_total, multiplier, shift_exponents


@given(st.floats(2.0**-31, 2.0**29))
def test_fixed_point_is_the_nearest(effective):
    y, s = (int(part) for part in fixed_point(np.array([effective]))[:, 0])
    assert 2**30 <= y < 2**31 and 1 <= s <= 62
    assert abs(Fraction(y, 2**s) - Fraction(effective)) <= Fraction(1, 2 ** (s + 1))


def test_fixed_point_at_its_ends():
    y, s = fixed_point(np.array([0.5 * (1 - 2.0**-40), 1e-30]))
    assert (y[0], s[0]) == (2**30, 31)  # rounded up into the next power
    assert (2**31 * int(y[1]) + 2 ** (int(s[1]) - 1)) >> int(s[1]) in (0, 1) and s[1] == 62
    with pytest.raises(ValueError, match="less than 2\\^30"):
        fixed_point(np.array([2.0**31]))


def test_exponents():
    assert shift_exponents(np.array([0.5, 2.0**-30 * (1 + 1e-7)])).tolist() == [1, 30]
    for wrong in (0.3, 1.0, 2.0**-31):
        with pytest.raises(ValueError, match="not powers of two"):
            shift_exponents(np.array([0.5, wrong]))
    assert multiplier(np.array([0.25]), "shift").dtype == np.int32 and multiplier(np.array([0.25]), "float").dtype == np.float32
    assert multiplier(np.array([0.25, 0.5]), "fixed_point").shape == (2, 2)


def test_a_shift_folds_rounding_and_zero_points_into_the_bias():
    rng = np.random.default_rng(0)
    w = rng.integers(-127, 128, (3, 1, 1, 8)).astype(np.int8)
    bias, k, z_x, z = np.array([5, -70000, 0], np.int32), np.array([3, 9, 1], np.int32), 7, -20
    x = rng.integers(0, 256, 8)
    total = (w.reshape(3, 8).astype(int) @ x) + folded_bias(bias, w, z_x, k, z)
    exact = w.reshape(3, 8).astype(int) @ (x - z_x) + bias
    for got, acc, shift in zip(total >> k, exact, k, strict=True):
        assert int(got) == (Fraction(int(acc), 2 ** int(shift)) + Fraction(1, 2)).__floor__() + z


@given(st.integers(0, 255), st.integers(0, 2**16))
def test_the_largest_total_is_reached_and_not_exceeded(zero_point, seed):
    rng = np.random.default_rng(seed)
    w, bias = rng.integers(-127, 128, (2, 1, 1, 6)).astype(np.int8), rng.integers(-999, 999, 2).astype(np.int32)
    flat = w.reshape(2, 6).astype(int)
    most = largest_total(bias, w, zero_point, 255)
    ends = [np.where(sign * flat > 0, 255, 0) - zero_point for sign in (1, -1)]
    reached = np.max([np.abs((end * flat).sum(axis=1) + bias) for end in ends], axis=0)
    np.testing.assert_array_equal(most, reached)
    x = rng.integers(0, 256, (50, 6)) - zero_point
    assert (np.abs(x @ flat.T + bias) <= most).all()


@pytest.mark.parametrize("bits", [BOUNDED, SHORT])
def test_bounded(bits):
    assert is_bounded(np.array([2**bits - 300]), np.array([1.0]), 255, bits)
    assert not is_bounded(np.array([2**bits - 200]), np.array([1.0]), 255, bits)
    assert not is_bounded(np.array([1, 2**30]), np.array([0.5, 0.5]), 0, bits)
