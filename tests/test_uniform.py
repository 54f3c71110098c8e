"""Scales, zero points and rounding against bounds that follow from the step, and against brute force."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tvm_rsq.errors import ConfigError, ModelError
from tvm_rsq.uniform import (
    activation_quant,
    bias_scale_floor,
    dequantize_weight,
    fake_quantize,
    fake_quantize_weight,
    mse_weight_scale,
    nmse,
    quantize_activation,
    quantize_weight,
    weight_scale,
)

BITS = st.sampled_from([4, 6, 8])


def _weight(seed: int = 0, shape: tuple[int, ...] = (6, 3, 3, 4)) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.standard_normal(shape) * np.exp(rng.standard_normal((shape[0], *[1] * (len(shape) - 1))))).astype(np.float32)


@pytest.mark.parametrize("bits", [4, 6, 8])
@pytest.mark.parametrize("axis", [None, 0, 3, -1])
def test_weights_are_off_by_at_most_half_a_step(bits, axis):
    w = _weight()
    scale = weight_scale(w, axis, bits)
    assert scale.dtype == np.float32 and scale.shape == ((1,) if axis is None else (w.shape[axis],))
    q = quantize_weight(w, scale, axis, bits)
    assert q.dtype == np.int8 and np.abs(q).max() == 2 ** (bits - 1) - 1
    step = scale[0] if axis is None else np.moveaxis(np.broadcast_to(scale, (*np.moveaxis(w, axis, -1).shape,)), -1, axis)
    assert (np.abs(w - dequantize_weight(q, scale, axis)) <= step / 2 * (1 + 1e-5)).all()
    # The bound bites: with a doubled scale it does not hold.
    assert (np.abs(w - fake_quantize_weight(w, scale * 2, axis, bits)) > step / 2 * (1 + 1e-5)).any()


def test_per_channel_is_per_tensor_of_each_channel():
    w = _weight()
    each = [weight_scale(w[i], None, 8)[0] for i in range(len(w))]
    np.testing.assert_array_equal(weight_scale(w, 0, 8), np.array(each, np.float32))


def test_zero_and_faint_channels_have_usable_scales():
    w = _weight()
    w[1], w[2] = 0, w[2] / np.abs(w[2]).max() * 1e-20
    scale = weight_scale(w, 0, 8)
    assert scale[1] == scale.max() and scale[2] == scale.max() / 4096
    assert not quantize_weight(w, scale, 0, 8)[1:3].any()
    assert (weight_scale(np.zeros((3, 4), np.float32), 0, 8) == 2.0**-8).all()


def test_bias_floor_keeps_biases_in_int32():
    w, bias, input_scale = _weight(), np.full(6, 1e5, np.float32), 1e-3
    scale = weight_scale(w * 1e-6, 0, 8, minimum=bias_scale_floor(bias, input_scale))
    assert (np.abs(bias / (input_scale * scale.astype(np.float64))) <= 2**30 * (1 + 1e-6)).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite_are_refused(bad):
    w = _weight()
    w[2, 0, 0, 0] = bad
    with pytest.raises(ModelError, match="NaN or infinity"):
        weight_scale(w, 0, 8)


def test_mse_scale_beats_min_max_and_equals_a_search():
    w = _weight(shape=(4, 60))
    w[0, 0] = 30  # an outlier that min-max follows
    for axis in (None, 0):
        found = mse_weight_scale(w, axis, 4, candidates=8)
        ratios = np.linspace(1.0, 0.3, 8)
        options = np.stack([weight_scale(w, axis, 4, clip_ratio=r) for r in ratios])
        rows = [w.reshape(1, -1)] if axis is None else [row[None] for row in w]
        for row, scale, option in zip(rows, found, options.T, strict=True):
            errors = [nmse(row, fake_quantize_weight(row, np.array([s]), None, 4)) for s in option]
            assert nmse(row, fake_quantize_weight(row, np.array([scale]), None, 4)) == pytest.approx(min(errors))
    fitted, plain = (nmse(w, fake_quantize_weight(w, scale(w, None, 4), None, 4)) for scale in (mse_weight_scale, weight_scale))
    assert fitted < plain


@given(st.floats(-1e4, 1e4, width=32), st.floats(0, 1e4, width=32), BITS, st.integers(0, 2**16))
def test_activations_are_off_by_at_most_half_a_step(low, width, bits, seed):
    high = low + width
    quant = activation_quant(low, high, bits)
    assert quant.scale == np.float32(quant.scale)
    assert fake_quantize(np.zeros(1, np.float32), quant)[0] == 0
    x = np.random.default_rng(seed).uniform(low, high, 200).astype(np.float32)
    error = np.abs(x.astype(np.float64) - fake_quantize(x, quant))
    assert (error <= quant.scale / 2 + np.spacing(np.abs(x) + np.float32(quant.scale)) * 2).all() or width == low == 0


def test_activation_grid_by_brute_force():
    quant = activation_quant(-1.3, 2.6, 4)
    grid = np.array([quant.scale * (q - quant.zero_point) for q in range(16)])
    x = np.linspace(-3, 4, 1001).astype(np.float32)
    nearest = np.abs(x[:, None] - grid).argmin(1)
    got = quantize_activation(x, quant)
    np.testing.assert_allclose(np.abs(x - grid[got]), np.abs(x - grid[nearest]), atol=1e-6)
    assert quantize_activation(np.array([np.inf, -np.inf], np.float32), quant).tolist() == [15, 0]


@pytest.mark.parametrize(("low", "high"), [(0.0, 0.0), (5.0, 5.0), (-5.0, -5.0), (1e-30, 1e-30), (0.0, 1e-45)])
def test_constant_ranges_are_defined(low, high):
    quant = activation_quant(low, high, 8)
    x = np.full(3, low, np.float32)
    assert np.abs(fake_quantize(x, quant) - x).max() <= quant.scale / 2
    if abs(low) == 5:
        np.testing.assert_allclose(fake_quantize(x, quant), x, rtol=1e-6)


@pytest.mark.parametrize(("low", "high", "bits"), [(1.0, 0.0, 8), (np.nan, 1.0, 8), (0.0, np.inf, 8), (0.0, 1.0, 5)])
def test_impossible_activation_ranges_are_refused(low, high, bits):
    with pytest.raises(ConfigError):
        activation_quant(low, high, bits)


def test_nmse():
    r = np.array([3.0, 4.0])
    assert nmse(r, np.zeros(2)) == 1 and nmse(r, r) == 0 and nmse(np.zeros(2), np.zeros(2)) == 0
    assert nmse(np.zeros(2), r) == np.inf
    with pytest.raises(ConfigError, match="shapes"):
        nmse(r, np.zeros(3))
