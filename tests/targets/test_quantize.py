from __future__ import annotations

import numpy as np
import pytest
from exact_reference import CPUS, affine_rounded, fma32, quantized, run, spec_that_runs_here
from hypothesis import given, settings
from hypothesis import strategies as st

from tvm_rsq.targets.generic.quantize import make_dequantize, requantize_affine
from tvm_rsq.targets.workloads_elementwise import DequantizeWorkload, QuantizeWorkload, RequantizeWorkload

SHAPES = [(7,), (3, 5), (1, 3, 9, 16), (2, 3, 5, 7)]
NHWC = (0, 2, 3, 1)


@pytest.mark.parametrize("cpu", CPUS)
@settings(max_examples=4, deadline=None)
@given(shape=st.sampled_from(SHAPES), zero_point=st.sampled_from([0, 3, 128, 255]), bits=st.sampled_from([8, 4]), seed=st.integers(0, 9))
def test_quantize_rounds_once(cpu, shape, zero_point, bits, seed):
    spec = spec_that_runs_here(cpu)
    w = QuantizeWorkload(shape=shape, zero_point=zero_point, qmax=2**bits - 1)
    rng = np.random.default_rng(seed)
    x = (rng.standard_normal(shape) * 60).astype("float32")
    x.flat[:6] = [0.5, -0.5, 1.5, 3e38, -3e38, -0.0]  # ties and values far outside
    inv_scale = np.float32(1.0 if seed % 2 else 1 / 0.7)
    got = run(spec, spec.library.quantize(w), [x, np.array([inv_scale])], shape, "uint8")
    np.testing.assert_array_equal(got, affine_rounded(x, inv_scale, zero_point, 0, w.qmax, "uint8"))


@pytest.mark.parametrize("cpu", CPUS)
def test_quantize_takes_infinities(cpu):
    spec = spec_that_runs_here(cpu)
    x = np.array([np.inf, -np.inf, 1.0], "float32")
    kernel = spec.library.quantize(QuantizeWorkload(shape=(3,), zero_point=7, qmin=2, qmax=250))
    np.testing.assert_array_equal(run(spec, kernel, [x, np.ones(1, "float32")], (3,), "uint8"), [250, 2, 8])


@pytest.mark.parametrize("cpu", CPUS)
@pytest.mark.parametrize("shape", [(1, 3, 32, 17), (2, 4, 5, 6), (1, 19, 3, 8)])
def test_quantize_permutes_nchw_to_nhwc(cpu, shape):
    spec = spec_that_runs_here(cpu)
    x = (np.random.default_rng(0).standard_normal(shape) * 60).astype("float32")
    kernel = spec.library.quantize(QuantizeWorkload(shape=shape, permutation=NHWC, zero_point=128))
    expected = affine_rounded(x.transpose(NHWC), np.float32(0.9), 128, 0, 255, "uint8")
    np.testing.assert_array_equal(run(spec, kernel, [x, np.array([0.9], "float32")], expected.shape, "uint8"), expected)


def test_quantize_to_int8():
    spec = spec_that_runs_here("llvm")
    x = np.linspace(-200, 200, 97, dtype="float32")
    kernel = spec.library.quantize(QuantizeWorkload(shape=(97,), dtype="int8", zero_point=123))
    expected = affine_rounded(x, np.float32(1.1), -5, -128, 127, "int8")
    np.testing.assert_array_equal(run(spec, kernel, [x, np.array([1.1], "float32")], (97,), "int8"), expected)


@pytest.mark.parametrize("cpu", CPUS)
@pytest.mark.parametrize("permutation", [None, (0, 3, 1, 2)])
def test_dequantize(cpu, permutation):
    spec = spec_that_runs_here(cpu)
    q = quantized(np.random.default_rng(0), (1, 4, 5, 7), extreme=False)
    expected = fma32(q.astype("int32") - 131, np.float32(0.037), 0)
    expected = expected if permutation is None else expected.transpose(permutation)
    kernel = make_dequantize(DequantizeWorkload(shape=q.shape, permutation=permutation, zero_point=131))
    np.testing.assert_array_equal(run(spec, kernel, [q, np.array([0.037], "float32")], expected.shape, "float32"), expected)


@pytest.mark.parametrize("cpu", CPUS)
@pytest.mark.parametrize("ratio", [0.5, 0.3, 2.7])
def test_requantize_is_the_fma_then_the_rounding(cpu, ratio):
    spec = spec_that_runs_here(cpu)
    q = np.arange(256, dtype="uint8")
    affine = requantize_affine(ratio, 9, 1.0, 20)
    expected = affine_rounded(fma32(q, affine[0], affine[1]), 1, 0, 4, 250, "uint8")
    kernel = spec.library.requantize(RequantizeWorkload(shape=(256,), qmin=4, qmax=250))
    np.testing.assert_array_equal(run(spec, kernel, [q, affine], (256,), "uint8"), expected)
    exact = np.clip((q - 9.0) * ratio + 20, 4, 250)
    assert np.abs(expected - exact).max() <= 0.5 + 1e-4  # half a step: the affine means what its docstring says
