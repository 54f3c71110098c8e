from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from exact_reference import CPUS, affine_rounded, fma32, quantized, run, spec_that_runs_here
from hypothesis import given, settings
from hypothesis import strategies as st

from tvm_rsq.targets.generic.pool import make_avg_pool2d, make_max_pool2d
from tvm_rsq.targets.workloads_elementwise import AvgPoolWorkload, MaxPoolWorkload

# (shape, kernel, stride, padding, dilation, out_size)
GEOMETRIES = [
    ((1, 8, 8, 16), (3, 3), (2, 2), (1, 1, 1, 1), (1, 1), (4, 4)),
    ((2, 7, 9, 5), (2, 3), (1, 2), (0, 1, 1, 0), (1, 1), (7, 4)),
    ((1, 6, 6, 24), (3, 3), (2, 2), (0, 0, 0, 0), (1, 1), (3, 3)),  # ceil_mode: the last window hangs over by one
    ((1, 9, 8, 8), (3, 2), (1, 1), (2, 2, 2, 2), (2, 3), (9, 9)),
    ((1, 9, 8, 8), (3, 2), (1, 2), (0, 0, 0, 0), (2, 3), (5, 3)),  # dilated, and every tap inside
    ((1, 5, 5, 3), (5, 5), (1, 1), (0, 0, 0, 0), (1, 1), (1, 1)),
    ((1, 3, 3, 8), (2, 2), (3, 3), (1, 1, 1, 1), (1, 1), (2, 2)),
]
LARGE = [
    ((2, 20, 18, 36), (3, 3), (2, 2), (1, 1, 1, 1), (1, 1), (10, 9)),  # enough work for threads; the last vector of channels overlaps
    ((1, 9, 8, 3), (9, 8), (9, 8), (0, 0, 0, 0), (1, 1), (1, 1)),  # too many taps to unroll
]


def windows(geometry):
    """((n, oh, ow), rows, columns) of every window, valid positions only, and all tap positions."""
    shape, kernel, stride, padding, dilation, out_size = geometry
    for oh, ow in product(range(out_size[0]), range(out_size[1])):
        rows = [oh * stride[0] - padding[0] + k * dilation[0] for k in range(kernel[0])]
        columns = [ow * stride[1] - padding[1] + k * dilation[1] for k in range(kernel[1])]
        yield oh, ow, rows, columns


def valid(positions, size):
    return [p for p in positions if 0 <= p < size]


@pytest.mark.parametrize("cpu", CPUS)
@settings(max_examples=6, deadline=None)
@given(geometry=st.sampled_from(GEOMETRIES), extreme=st.booleans(), dtype=st.sampled_from(["uint8", "int8"]))
def test_max_pool(cpu, geometry, extreme, dtype):
    check_max_pool(spec_that_runs_here(cpu), geometry, dtype, extreme=extreme)


@pytest.mark.parametrize("geometry", [*LARGE, GEOMETRIES[4]])
@pytest.mark.parametrize("dtype", ["uint8", "int8"])
def test_max_pool_in_parallel_of_large_windows_and_dilated_ones(geometry, dtype):
    check_max_pool(spec_that_runs_here("llvm"), geometry, dtype, extreme=False)


def check_max_pool(spec, geometry, dtype, *, extreme):
    shape, kernel, stride, padding, dilation, out_size = geometry
    x = quantized(np.random.default_rng(0), shape, extreme=extreme, dtype=dtype)
    expected = np.full((shape[0], *out_size, shape[3]), np.iinfo(dtype).min, dtype)
    for oh, ow, rows, columns in windows(geometry):
        for r, c in product(valid(rows, shape[1]), valid(columns, shape[2])):
            expected[:, oh, ow] = np.maximum(expected[:, oh, ow], x[:, r, c])
    w = MaxPoolWorkload(shape=shape, kernel=kernel, stride=stride, padding=padding, dilation=dilation, out_size=out_size, dtype=dtype)
    np.testing.assert_array_equal(run(spec, make_max_pool2d(w), [x], expected.shape, dtype), expected)


@pytest.mark.parametrize("cpu", CPUS)
@settings(max_examples=6, deadline=None)
@given(geometry=st.sampled_from(GEOMETRIES), extreme=st.booleans(), include_pad=st.booleans(), out=st.sampled_from(["uint8", "float32"]))
def test_avg_pool(cpu, geometry, extreme, include_pad, out):
    shape, kernel, stride, padding, dilation, out_size = geometry
    x = quantized(np.random.default_rng(0), shape, extreme=extreme)
    total = np.zeros((shape[0], *out_size, shape[3]), int)
    count = np.zeros((1, *out_size, 1), np.float32)
    low, high = ((-padding[0], -padding[1]), (shape[1] + padding[2], shape[2] + padding[3])) if include_pad else ((0, 0), shape[1:3])
    for oh, ow, rows, columns in windows(geometry):
        for r, c in product(valid(rows, shape[1]), valid(columns, shape[2])):
            total[:, oh, ow] += x[:, r, c].astype(int) - 77
        counted = [p for p in product(rows, columns) if all(a <= i < b for a, i, b in zip(low, p, high, strict=True))]
        count[:, oh, ow] = max(len(counted), 1)
    multiplier = np.array([1.37], "float32")
    w = AvgPoolWorkload(
        shape=shape, kernel=kernel, stride=stride, padding=padding, dilation=dilation, out_size=out_size, count_include_pad=include_pad,
        input_zero_point=77, out=out, zero_point=90, qmax=220, low=-40.0,
    )  # fmt: skip
    ratio = np.broadcast_to(multiplier / count, total.shape)
    if out == "uint8":
        expected = affine_rounded(total, ratio, 90, 0, 220, "uint8")
    else:
        expected = np.maximum(fma32(total, ratio, 0), np.float32(-40))
    spec = spec_that_runs_here(cpu)
    got = run(spec, make_avg_pool2d(w, form=spec.library.form), [x, multiplier], expected.shape, out)
    np.testing.assert_array_equal(got, expected)


def test_a_window_of_padding_alone_is_the_least_value():
    w = MaxPoolWorkload(shape=(1, 2, 2, 8), kernel=(2, 2), stride=(2, 2), padding=(2, 0, 0, 0), out_size=(2, 1))
    x = np.full((1, 2, 2, 8), 9, "uint8")
    got = run(spec_that_runs_here("llvm"), make_max_pool2d(w), [x], w.out_shape, "uint8")
    np.testing.assert_array_equal(got[0, :, 0, 0], [0, 9])
