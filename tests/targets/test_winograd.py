from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from conv_reference import draw_arguments, expected
from exact_reference import run, spec_that_runs_here
from hypothesis import given, settings
from hypothesis import strategies as st

from tvm_rsq.targets.generic.winograd import winograd
from tvm_rsq.targets.generic.winograd_space import default_winograd_tile, winograd_choices
from tvm_rsq.targets.generic.winograd_tile import tile_count, winograd_fits
from tvm_rsq.targets.generic.winograd_transform import divide_output, transform_filters, transform_input, transform_output
from tvm_rsq.targets.generic.word_step import WidenWordStep
from tvm_rsq.targets.workload import Conv2DWorkload, Epilogue
from tvm_rsq.targets.x86_64.steps import MaddStep

WIDEN = WidenWordStep()
MADD = MaddStep(lanes=8, registers=16, name="madd256")
SAME = (1, 1, 1, 1)


def winograd_output(w, step, a, target="llvm", **knobs):
    spec = spec_that_runs_here(target)
    tile = replace(default_winograd_tile(w, step, knobs.pop("m", 4)), **knobs)
    kernel = winograd(w, step, spec.form, tile)
    inputs = [a.data, kernel.pack_weight(a.weight), a.bias, a.multiplier, a.residual, a.affine]
    shape = (w.batch, w.out_height, w.out_width, w.out_channels)
    return run(spec, kernel, [x for x in inputs if x is not None], shape, w.epilogue.out)


@st.composite
def workloads(draw, m):
    padding = draw(st.sampled_from([(0, 0, 0, 0), SAME, (0, 2, 1, 0)]))
    return Conv2DWorkload(
        batch=draw(st.integers(1, 2)),
        height=m + 2 + draw(st.integers(0, 6)),
        width=m + 2 + draw(st.integers(0, 6)),
        in_channels=draw(st.sampled_from([1, 3, 8, 18, 33])),
        out_channels=draw(st.sampled_from([1, 5, 8, 19, 40])),
        kernel=(3, 3),
        padding=padding,
        input_zero_point=draw(st.sampled_from([0, 7, 255])),
        epilogue=Epilogue(
            requantize=draw(st.sampled_from(["float", "shift"])),
            per_channel=draw(st.booleans()),
            residual=draw(st.booleans()),
            shared_residual=True,
            zero_point=draw(st.integers(0, 255)),
        ),
    )


@pytest.mark.parametrize("m", [2, 4])
@pytest.mark.parametrize(("step", "target"), [(WIDEN, "x86-64"), (MADD, "haswell")], ids=["widen", "madd"])
@settings(max_examples=4, deadline=None, derandomize=True)
@given(data=st.data(), extreme=st.booleans(), seed=st.integers(0, 2**16))
def test_equal_to_the_reference_bit_for_bit(m, step, target, data, extreme, seed):
    w = data.draw(workloads(m))
    a = draw_arguments(w, np.random.default_rng(seed), extreme=extreme)
    count = tile_count(w, m)
    cols = data.draw(st.integers(1, min(3, count)))
    knobs = {
        "cols": cols,
        "vecs": data.draw(st.integers(1, max(1, min(2, w.out_channels // 8)))),
        "tiles": data.draw(st.integers(cols, min(count, 7))),
        "outer": data.draw(st.sampled_from(["tiles", "channels"])),
        "weights": data.draw(st.sampled_from(["transformed", "plain"])),
    }
    if w.out_channels < step.lanes:
        step = WIDEN  # pmaddwd comes in 4 lanes at least
    np.testing.assert_array_equal(winograd_output(w, step, a, target, m=m, **knobs), expected(w, a))


@pytest.mark.parametrize("m", [2, 4])
def test_sums_may_wrap_around(m):
    """The extremes of the longest sum that fits: what is between the transforms overflows int32 many times, the result does not."""
    w = Conv2DWorkload(
        batch=1, height=4, width=4, in_channels=1841, out_channels=8, kernel=(3, 3), padding=SAME, epilogue=Epilogue(out="float32")
    )  # fmt: skip
    assert winograd_fits(w, m) and not winograd_fits(replace(w, in_channels=1842), m)
    a = draw_arguments(w, np.random.default_rng(3), extreme=True)
    for channel, (sign_x, sign_w) in enumerate(product([1, -1], repeat=2)):
        # Signs that agree with the transform's own, so that nothing cancels in it.
        a.weight[channel] = 127 * np.where(np.add.outer(np.arange(3), np.arange(3)) % 2, sign_w, sign_x)[:, :, None]
    a.weight[4], a.weight[5] = 127, -127
    a.data[:] = 255
    a.data[:, 1::2, :2] = 0
    np.testing.assert_array_equal(winograd_output(w, MADD, a, "haswell", m=m), expected(w, a))


@pytest.mark.parametrize("in_channels", [160, 150, 33])
def test_plain_weights_are_summed_in_parts(in_channels):
    """160: ten whole parts; 150: the last is not full; 33: an odd number of channels, no vector is whole in a part."""
    w = Conv2DWorkload(
        batch=1, height=5, width=6, in_channels=in_channels, out_channels=24, kernel=(3, 3), padding=SAME, epilogue=Epilogue(zero_point=9)
    )  # fmt: skip
    a = draw_arguments(w, np.random.default_rng(in_channels), extreme=True)
    got = winograd_output(w, MADD, a, "haswell", weights="plain", cols=3, vecs=2, tiles=4)
    np.testing.assert_array_equal(got, expected(w, a))


def test_choices_differ_and_begin_with_the_untuned():
    w = Conv2DWorkload(batch=1, height=14, width=14, in_channels=64, out_channels=72, kernel=(3, 3), padding=SAME)
    choices = winograd_choices(w, MADD)
    assert 10 <= len(choices) == len(set(choices)) <= 24
    assert choices[0] == default_winograd_tile(w, MADD, 4)
    assert {c.m for c in choices} == {2, 4} and {c.weights for c in choices} == {"transformed", "plain"}
    for choice in choices:
        winograd(w, MADD, "fma", choice)
    assert not winograd_choices(replace(w, stride=(2, 2)), MADD)


# Few tiles and many weights: transformed weights, four times as many bytes as plain ones, would come from memory.
@pytest.mark.parametrize(("side", "channels", "weights"), [(56, 64, "transformed"), (14, 256, "transformed"), (7, 512, "plain")])
def test_the_untuned_choice_is_the_fastest_kind(side, channels, weights):
    w = Conv2DWorkload(
        batch=1, height=side, width=side, in_channels=channels, out_channels=channels, kernel=(3, 3), padding=SAME
    )  # fmt: skip
    best = winograd_choices(w, MADD)[0]
    assert (best.m, best.weights) == (4, weights)


@pytest.mark.parametrize("m", [2, 4])
def test_transforms_fit_int16_whatever_the_values(m):
    b = np.array(transform_input(m, list(np.eye(m + 2, dtype=np.int64)), _as_it_is))
    low, high = np.minimum(b, 0).sum(axis=1), np.maximum(b, 0).sum(axis=1)
    most = np.maximum(np.outer(high, high) + np.outer(low, low), -np.outer(high, low) - np.outer(low, high))
    assert 255 * most.max() <= 32767
    u = np.abs(transform_filters(np.eye(9, dtype=np.int8).reshape(9, 3, 3, 1), m).astype(np.int64))
    assert 127 * u.sum(axis=2).max() <= 32767


@pytest.mark.parametrize("m", [2, 4])
def test_transforms_make_a_convolution(m):
    rng, n = np.random.default_rng(0), m + 2
    d, g = rng.integers(0, 256, (n, n), np.int16), rng.integers(-127, 128, (1, 3, 3, 1), np.int8)
    v = np.array(transform_input(m, list(np.array(transform_input(m, list(d), _as_it_is)).T), _as_it_is)).T
    products = v.astype(np.int32) * transform_filters(g, m)[:, :, 0, 0]
    total = np.array(transform_output(m, list(np.array(transform_output(m, list(products), _as_it_is)).T), _as_it_is)).T
    reference = [[(d[i : i + 3, j : j + 3].astype(int) * g[0, :, :, 0]).sum() for j in range(m)] for i in range(m)]
    np.testing.assert_array_equal(divide_output(m, total), reference)


def _as_it_is(value):
    return value


def test_the_check_sees_a_wrong_weight():
    w = Conv2DWorkload(batch=1, height=4, width=4, in_channels=4, out_channels=8, kernel=(3, 3), padding=SAME)
    a = draw_arguments(w, np.random.default_rng(0), extreme=False)
    got = winograd_output(w, WIDEN, a, m=2)
    a.weight[3, 1, 1] += 1
    assert (got != expected(w, a)).any()


def test_a_workload_that_does_not_fit_is_refused():
    w = Conv2DWorkload(batch=1, height=8, width=8, in_channels=4, out_channels=8, kernel=(3, 3))
    others = [{"stride": (2, 2)}, {"groups": 4}, {"kernel": (1, 1)}, {"height": 5}, {"dilation": (2, 2)}, {"in_dtype": "float32"}]
    for other in (replace(w, **changes) for changes in others):
        assert not winograd_fits(other, 4)
        with pytest.raises(ValueError, match="use the direct one"):
            winograd(other, WIDEN, "fma", default_winograd_tile(w, WIDEN, 4))
    with pytest.raises(ValueError, match="larger than"):
        winograd(w, WIDEN, "fma", replace(default_winograd_tile(w, WIDEN, 4), tiles=5))
    with pytest.raises(ValueError, match="symmetrically"):
        winograd(w, WIDEN, "fma").pack_weight(np.full((8, 3, 3, 4), -128, np.int8))
