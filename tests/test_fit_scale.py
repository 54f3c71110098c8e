"""Scales under a lever: powers of two where they were asked for, floors respected, and no worse than what they are compared with."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tvm_rsq.fit_scale import fit_scale
from tvm_rsq.safe_weights import keeps_promise, quantize_safely, squared_errors
from tvm_rsq.uniform import weight_scale

NONE = np.zeros(4, np.float32)


def weights(seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.standard_normal((4, 64)) * rng.uniform(0.01, 1, (4, 1))).astype(np.float32)


@given(st.integers(0, 999), st.booleans(), st.floats(1.0, 1e2), st.sampled_from([0, 1, 2, 4]))
def test_effective_multipliers_are_powers_of_two(seed, per_channel, unit, d):
    scale = fit_scale(weights(seed), per_channel=per_channel, bits=8, floor=NONE, unit=unit, accumulate16=d)
    exponent = np.log2(unit / scale.astype(np.float64))
    assert scale.shape == ((4,) if per_channel else (1,)) and scale.dtype == np.float32
    assert np.abs(exponent - np.rint(exponent)).max() < 1e-6 and 1 <= exponent.min() + 0.5 and exponent.max() <= 30.5


def test_the_better_of_two_powers():
    w = weights()
    w[0, 0] = np.abs(w[0]).max() * 1.05  # just beyond a power: clipping it costs less than doubling every step
    peak = float(np.abs(w[0]).max()) / 127
    unit = peak / 1.02 * 2**6
    scale = fit_scale(w, per_channel=True, bits=8, floor=NONE, unit=unit)
    assert scale[0] < peak
    errors = next(squared_errors(w, [scale], 8, 0))
    for other in (scale * 2, scale / 2):
        assert (errors <= next(squared_errors(w, [other], 8, 0))).all()


def test_no_power_in_range_is_no_scale():
    assert fit_scale(weights(), per_channel=True, bits=8, floor=NONE, unit=1e-12) is None
    assert fit_scale(weights(), per_channel=False, bits=8, floor=NONE, unit=1e12) is None


@pytest.mark.parametrize("unit", [None, 3.0])
@pytest.mark.parametrize("d", [0, 2])
def test_floors_hold(unit, d):
    floor = np.array([0, 0.05, 0, 0.1], np.float32)
    assert (fit_scale(weights(), per_channel=True, bits=8, floor=floor, unit=unit, accumulate16=d) >= floor).all()
    assert fit_scale(weights(), per_channel=False, bits=8, floor=floor, unit=unit, accumulate16=d) >= 0.1


@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize("d", [1, 2, 4])
def test_a_promise_costs_less_than_a_bit_for_each_doubling(per_channel, d):
    """The plain way to keep it is a grid of 128 / (2 D) levels."""
    w = weights()
    scale = fit_scale(w, per_channel=per_channel, bits=8, floor=NONE, accumulate16=d)
    assert keeps_promise(quantize_safely(w, scale, 8, d), d)
    ours = next(squared_errors(w, [scale], 8, d)).sum()
    safe = weight_scale(w, 0 if per_channel else None, 8) * np.float32(127 / (64 // d))
    assert ours < next(squared_errors(w, [safe], 8, d)).sum()


def test_without_a_lever_it_is_min_max():
    np.testing.assert_array_equal(fit_scale(weights(), per_channel=True, bits=8, floor=NONE), weight_scale(weights(), 0, 8))


@pytest.mark.parametrize("d", [0, 1, 2, 4])
def test_a_faint_channel_finds_its_power_after_all_others_did(d):
    rng = np.random.default_rng(0)
    w = rng.uniform(-127, 127, (100, 64)).astype(np.float32)
    w[7] /= 64
    scale = fit_scale(w, per_channel=True, bits=8, floor=np.zeros(100, np.float32), unit=2.5, accumulate16=d)
    assert scale is not None and (scale > 0).all()
