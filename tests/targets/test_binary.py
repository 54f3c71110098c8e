from __future__ import annotations

import numpy as np
import pytest
from exact_reference import CPUS, affine_rounded, fma32, quantized, run, spec_that_runs_here
from hypothesis import given, settings
from hypothesis import strategies as st

from tvm_rsq.targets.generic.binary import add_affine, make_add, make_multiply
from tvm_rsq.targets.workloads_elementwise import AddWorkload, MultiplyWorkload

SHAPES = [
    ((1, 3, 4, 16), (1, 3, 4, 16)),
    ((2, 3, 5, 7), (2, 3, 5, 7)),
    ((2, 3, 5, 24), (1, 1, 1, 24)),
    ((2, 3, 5, 24), (2, 1, 1, 24)),
    ((2, 3, 5, 16), (2, 3, 5, 1)),
    ((2, 3, 4, 5), (2, 1, 1, 1)),
    ((1, 3, 4, 9), (9,)),
    ((1, 1, 1, 8), (2, 3, 2, 8)),
]


@pytest.mark.parametrize("cpu", CPUS)
@settings(max_examples=5, deadline=None)
@given(shapes=st.sampled_from(SHAPES), extreme=st.booleans(), qmin=st.sampled_from([0, 40]), subtract=st.booleans())
def test_add(cpu, shapes, extreme, qmin, subtract):
    spec = spec_that_runs_here(cpu)
    rng = np.random.default_rng(0)
    left, right = (quantized(rng, shape, extreme=extreme) for shape in shapes)
    affine = add_affine(0.031, 120, 0.017, 3, 0.04, 40, subtract=subtract)
    real = (left - 120.0) * 0.031 + (right - 3.0) * 0.017 * (-1 if subtract else 1)
    expected = affine_rounded(fma32(left, affine[0], fma32(right, affine[1], affine[2])), 1, 0, qmin, 240, "uint8")
    assert np.abs(expected - np.clip(real / 0.04 + 40, qmin, 240)).max() <= 0.5 + 1e-4
    w = AddWorkload(left_shape=shapes[0], right_shape=shapes[1], qmin=qmin, qmax=240)
    got = run(spec, make_add(w, form=spec.library.form), [left, right, affine], expected.shape, "uint8")
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("cpu", CPUS)
def test_add_to_float(cpu):
    spec = spec_that_runs_here(cpu)
    rng = np.random.default_rng(1)
    left, right = (quantized(rng, shape, extreme=False) for shape in SHAPES[1])
    affine = add_affine(0.031, 120, 0.017, 3)
    expected = np.clip(fma32(left, affine[0], fma32(right, affine[1], affine[2])), np.float32(0), np.float32(3.5))
    w = AddWorkload(left_shape=SHAPES[1][0], right_shape=SHAPES[1][1], out="float32", low=0.0, high=3.5)
    got = run(spec, make_add(w, form=spec.library.form), [left, right, affine], expected.shape, "float32")
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("cpu", CPUS)
@settings(max_examples=5, deadline=None)
@given(shapes=st.sampled_from(SHAPES), extreme=st.booleans(), zero_points=st.sampled_from([(0, 0), (255, 128), (7, 250)]))
def test_multiply(cpu, shapes, extreme, zero_points):
    spec = spec_that_runs_here(cpu)
    rng = np.random.default_rng(2)
    left, right = (quantized(rng, shape, extreme=extreme) for shape in shapes)
    product = (left.astype(int) - zero_points[0]) * (right.astype(int) - zero_points[1])
    multiplier = np.array([0.0041], "float32")
    expected = affine_rounded(product, multiplier[0], 100, 0, 255, "uint8")
    w = MultiplyWorkload(
        left_shape=shapes[0], right_shape=shapes[1], left_zero_point=zero_points[0], right_zero_point=zero_points[1], zero_point=100
    )
    got = run(spec, make_multiply(w, form=spec.library.form), [left, right, multiplier], expected.shape, "uint8")
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("cpu", ["haswell", "x86-64", "icelake-server"])
@settings(max_examples=6, deadline=None, derandomize=True)
@given(
    channels=st.sampled_from([7, 8, 31, 32, 33, 72]),
    images=st.sampled_from([(1, 1), (2, 1), (2, 2)]),
    rows=st.sampled_from([(1, 1), (3, 5), (40, 30)]),
    swapped=st.booleans(),
    extreme=st.booleans(),
    zero_points=st.sampled_from([(0, 0), (255, 128), (7, 250)]),
    gain=st.sampled_from([0.0041, 1.5e-5, 900.0]),
    limits=st.sampled_from([(0, 255), (13, 200)]),
)
def test_multiply_of_channels(cpu, channels, images, rows, swapped, extreme, zero_points, gain, limits):
    """Squeeze-and-excite, by the library's kernel: odd channel counts, pieces of rows, one factor for all images or one for each."""
    spec = spec_that_runs_here(cpu)
    rng = np.random.default_rng(channels)
    shapes = (images[0], *rows, channels), (images[1], 1, 1, channels)
    given_shapes = shapes[::-1] if swapped else shapes
    left, right = (quantized(rng, shape, extreme=extreme) for shape in given_shapes)
    # int64 and float64 are exact here: products below 2^16, a 24-bit multiplier, and a sum below 2^53 ulps.
    product = (left.astype("int64") - zero_points[0]) * (right.astype("int64") - zero_points[1])
    multiplier = np.array([gain], "float32")
    expected = np.clip(np.rint(product.astype("float64") * float(multiplier[0]) + 100), *limits).astype("uint8")
    w = MultiplyWorkload(
        left_shape=given_shapes[0], right_shape=given_shapes[1], left_zero_point=zero_points[0], right_zero_point=zero_points[1],
        zero_point=100, qmin=limits[0], qmax=limits[1],
    )  # fmt: skip
    kernel = spec.library.multiply(w)
    assert (kernel.name == "multiply_channels") == (channels >= 8)
    np.testing.assert_array_equal(run(spec, kernel, [left, right, multiplier], expected.shape, "uint8"), expected)


@pytest.mark.parametrize("size", [1, 31, 100, 40007])
def test_sums_and_products_of_one_shape_are_narrowed_by_packs(size):
    spec = spec_that_runs_here("haswell")
    left, right = (quantized(np.random.default_rng(seed), (size,), extreme=False) for seed in (0, 1))
    # Powers of two: nothing is rounded before the last step.
    added = np.clip(np.rint(left * 0.5 + right * 2.0 - 100), 20, 240).astype("uint8")
    w = AddWorkload(left_shape=(size,), right_shape=(size,), qmin=20, qmax=240)
    affine = np.array([0.5, 2.0, -100.0], "float32")
    np.testing.assert_array_equal(run(spec, spec.library.add(w), [left, right, affine], (size,), "uint8"), added)
    product = np.clip(np.rint((left - 3.0) * (right - 9.0) * 2.0**-7 + 5), 0, 255).astype("uint8")
    w = MultiplyWorkload(left_shape=(size,), right_shape=(size,), left_zero_point=3, right_zero_point=9, zero_point=5)
    got = run(spec, spec.library.multiply(w), [left, right, np.array([2.0**-7], "float32")], (size,), "uint8")
    np.testing.assert_array_equal(got, product)


def test_multiply_to_float_and_from_int8():
    spec = spec_that_runs_here("llvm")
    rng = np.random.default_rng(3)
    left, right = (quantized(rng, (2, 3, 8), extreme=False, dtype="int8") for _ in range(2))
    product = (left.astype(int) + 100) * (right.astype(int) - 5)
    shape = (2, 3, 8)
    w = MultiplyWorkload(left_shape=shape, right_shape=shape, left_zero_point=28, right_zero_point=133, dtype="int8", out="float32")
    got = run(spec, make_multiply(w, form=spec.library.form), [left, right, np.array([0.37], "float32")], (2, 3, 8), "float32")
    np.testing.assert_array_equal(got, fma32(product, np.float32(0.37), 0))
