"""Rounding whose errors cancel: its bounds, the best of all roundings of small kernels, and what clipping leaves of them."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tvm_rsq.errors import ConfigError, ModelError
from tvm_rsq.squant import squant_round, squant_weight
from tvm_rsq.uniform import dequantize_weight, quantize_weight, weight_scale

HALF = 0.5 + 1e-9  # sums of float64 errors


@st.composite
def rows(draw, *, most=6.0):
    """float64 (O, I, K) within the range, on a grid of 1/8 half of the time, where halves and whole numbers are frequent."""
    shape = draw(st.tuples(st.integers(1, 3), st.integers(1, 9), st.sampled_from([1, 2, 3, 9])))
    values = np.random.default_rng(draw(st.integers(0, 2**32 - 1))).uniform(-most, most, shape)
    return np.rint(values * 8) / 8 if draw(st.booleans()) else values


def _errors(made: np.ndarray, values: np.ndarray) -> np.ndarray:
    return made.astype(np.float64) - values


@given(rows())
def test_every_weight_is_a_neighbour_and_every_sum_cancels(values):
    made = squant_round(values, 7)
    assert made.dtype == np.int8 and made.shape == values.shape and np.abs(made).max() <= 7
    error = _errors(made, values)
    assert (np.abs(error) < 1).all()
    assert (np.abs(error.sum(axis=(1, 2))) <= HALF).all()
    # A kernel that helps its channel is off by less than one, all others by half of one.
    kernels = np.abs(error.sum(axis=2))
    assert (kernels < 1).all() and ((kernels > HALF).sum(axis=1) <= values.shape[1] / 2).all()


@given(rows())
def test_with_one_kernel_a_channel_kernels_cancel_to_half_a_step(values):
    error = _errors(squant_round(values[:, :1], 7), values[:, :1])
    assert (np.abs(error.sum(axis=2)) <= HALF).all()


@pytest.mark.parametrize("seed", range(40))
def test_a_kernel_is_the_best_of_all_roundings_that_cancel(seed):
    rng = np.random.default_rng(seed)
    values = rng.uniform(-3, 3, 5)
    made = squant_round(values[None, None], 7).reshape(-1)
    nearest = np.rint(values)
    options = np.array(list(itertools.product(*([np.floor(v), np.ceil(v)] for v in values))))
    options = options[np.abs((options - values).sum(axis=1)) <= HALF]
    assert np.square(made - values).sum() == pytest.approx(np.square(options - values).sum(axis=1).min())
    assert (made != nearest).sum() == (options != nearest).sum(axis=1).min()


@pytest.mark.parametrize("seed", range(20))
def test_a_channel_is_the_best_of_all_that_flip_one_weight_a_kernel_at_most(seed):
    values = np.random.default_rng(seed).uniform(-3, 3, (1, 4, 3))
    kernels = np.stack([squant_round(values[:, i : i + 1], 7)[0, 0] for i in range(4)])
    made = squant_round(values, 7)[0]
    options = []
    for moves in itertools.product(range(7), repeat=4):  # 0: none; else one of three weights, up or down
        q = kernels.astype(np.float64)
        for i, move in enumerate(moves):
            if move:
                q[i, (move - 1) % 3] += 1 if move > 3 else -1
        error = q - values[0]
        if abs(error.sum()) <= HALF and (np.abs(error) < 1).all() and (np.abs(error.sum(axis=1)) < 1).all():
            options.append(sum(1 for move in moves if move))
    assert (made != kernels).any(axis=1).sum() == min(options)
    assert ((made != kernels).sum(axis=1) <= 1).all()


@given(rows(most=20.0))
def test_clipped_weights_stay_at_the_bound_and_flips_within_it(values):
    made = squant_round(values, 7)
    assert np.abs(made).max(initial=0) <= 7
    beyond = np.abs(values) >= 7
    assert (np.abs(_errors(made, values))[~beyond] < 1).all()
    # What a clipped weight lacks, its kernel makes up for as far as it can: the sum is never worse than rounding leaves it.
    first = values[:, :1]
    plain, cancelled = (np.abs(_errors(q, first).sum(axis=(1, 2))) for q in (np.clip(np.rint(first), -7, 7), squant_round(first, 7)))
    assert (cancelled <= np.maximum(plain, HALF)).all()


def test_a_clipped_weight_is_made_up_for():
    made = squant_round(np.array([[[9.0, 1.4, 2.3, -0.2]]]), 7)
    assert made.tolist() == [[[7, 2, 3, 0]]]  # 2 are missing: 1.4 and 2.3 are rounded up, of which the errors are 0.6 and 0.7


def test_zeros_and_whole_numbers_stay():
    assert not squant_round(np.zeros((2, 3, 9)), 127).any()
    whole = np.random.default_rng(0).integers(-127, 128, (4, 5, 9))
    np.testing.assert_array_equal(squant_round(whole.astype(np.float32), 127), whole)


def test_no_channel_touches_another_and_pieces_do_not_show():
    values = np.random.default_rng(3).uniform(-7, 7, (70, 500, 9))  # more than two pieces
    made = squant_round(values, 7)
    for channel in (0, 28, 29, 30, 69):
        np.testing.assert_array_equal(squant_round(values[channel : channel + 1], 7)[0], made[channel])


@pytest.mark.parametrize("bits", [4, 6, 7, 8])
@pytest.mark.parametrize(("shape", "axis"), [((6, 3, 3, 5), 0), ((8, 3, 3, 1), 0), ((6, 1, 1, 40), 0), ((40, 6), 1), ((40, 6), -1)])
def test_weights_keep_their_layout(bits, shape, axis):
    w = np.random.default_rng(bits).standard_normal(shape).astype(np.float32)
    scale = weight_scale(w, axis, bits)
    made = squant_weight(w, scale, axis, bits)
    assert made.dtype == np.int8 and made.shape == w.shape and made.flags["C_CONTIGUOUS"] and np.abs(made).max() <= 2 ** (bits - 1) - 1
    channels = tuple(i for i in range(w.ndim) if i != axis % w.ndim)
    along = [-1 if i == axis % w.ndim else 1 for i in range(w.ndim)]
    steps = (dequantize_weight(made, scale, axis).astype(np.float64) - w) / scale.reshape(along)
    tolerance = w.size * 1e-5  # of float32 products
    assert (np.abs(steps) < 1 + tolerance).all() and (np.abs(steps.sum(axis=channels)) <= 0.5 + tolerance).all()
    if w.ndim == 4:
        assert (np.abs(steps.sum(axis=(1, 2))) < 1 + tolerance).all()
    # Rounding to nearest does not cancel by itself, so the bound bites.
    plain = (dequantize_weight(quantize_weight(w, scale, axis, bits), scale, axis).astype(np.float64) - w) / scale.reshape(along)
    assert (np.abs(plain.sum(axis=channels)) > 0.5).any() or shape[-1] == 1


def test_kernels_are_those_of_the_layout():
    w = np.zeros((1, 1, 3, 2), np.float32)
    w[0, 0, :, 0], w[0, 0, :, 1] = [0.4, 0.4, 0.4], [-0.4, -0.4, -0.4]
    made = squant_weight(w, np.ones(1, np.float32), 0, 4)
    assert made[0, 0, :, 0].sum() == 1 and made[0, 0, :, 1].sum() == -1


def test_one_scale_for_all_is_each_channels_own():
    w = np.random.default_rng(0).standard_normal((6, 3, 3, 5)).astype(np.float32)
    scale = weight_scale(w, None, 8)
    np.testing.assert_array_equal(squant_weight(w, scale, 0, 8), squant_weight(w, np.repeat(scale, 6), 0, 8))


def test_what_is_refused():
    w = np.ones((4, 3, 3, 2), np.float32)
    with pytest.raises(ConfigError, match="5 bits, expected one of"):
        squant_weight(w, np.ones(4, np.float32), 0, 5)
    with pytest.raises(ConfigError, match="with axis 3, expected"):
        squant_weight(w, np.ones(2, np.float32), 3, 8)
    with pytest.raises(ConfigError, match="3 scales for 4 channels"):
        squant_weight(w, np.ones(3, np.float32), 0, 8)
    with pytest.raises(ConfigError, match="one positive scale"):
        squant_weight(w, np.zeros(4, np.float32), 0, 8)
    with pytest.raises(ConfigError, match="1 to 127 levels"):
        squant_round(np.zeros((1, 1, 1)), 128)
    with pytest.raises(ModelError, match="NaN or infinity"):
        squant_weight(w * np.nan, np.ones(4, np.float32), 0, 8)
