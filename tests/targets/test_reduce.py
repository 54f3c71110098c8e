from __future__ import annotations

import numpy as np
import pytest
from exact_reference import CPUS, affine_rounded, fma32, quantized, run, spec_that_runs_here
from hypothesis import given, settings
from hypothesis import strategies as st

from tvm_rsq.targets.generic.reduce import make_reduce
from tvm_rsq.targets.workloads_elementwise import ReduceWorkload

CASES = [
    ((1, 7, 7, 32), (1, 2)),
    ((2, 3, 5, 9), (1, 2)),
    ((2, 3, 5, 16), (3,)),
    ((3, 4, 8), (0,)),
    ((2, 3, 4), (0, 1, 2)),
    ((2, 5, 8), (0, 2)),
]
OUT = st.sampled_from(["uint8", "float32"])


@pytest.mark.parametrize("cpu", CPUS)
@settings(max_examples=6, deadline=None)
@given(case=st.sampled_from(CASES), keepdims=st.booleans(), kind=st.sampled_from(["sum", "mean"]), out=OUT)
def test_sum_and_mean(cpu, case, keepdims, kind, out):
    shape, axes = case
    spec = spec_that_runs_here(cpu)
    x = quantized(np.random.default_rng(0), shape, extreme=False)
    total = (x.astype(int) - 120).sum(axes, keepdims=keepdims)
    w = ReduceWorkload(shape=shape, axes=axes, keepdims=keepdims, kind=kind, input_zero_point=120, out=out, zero_point=99, qmin=1)
    assert np.shape(total) == w.out_shape
    multiplier = np.array([1.7 if kind == "mean" else 0.11], "float32")
    ratio = multiplier[0] / np.float32(w.count) if kind == "mean" else multiplier[0]
    expected = affine_rounded(total, ratio, 99, 1, 255, "uint8") if out == "uint8" else fma32(total, ratio, 0)
    got = run(spec, make_reduce(w, form=spec.library.form), [x, multiplier], w.out_shape, out)
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("cpu", CPUS)
@pytest.mark.parametrize("case", CASES)
def test_max(cpu, case):
    shape, axes = case
    spec = spec_that_runs_here(cpu)
    x = quantized(np.random.default_rng(0), shape, extreme=False)
    w = ReduceWorkload(shape=shape, axes=axes, kind="max")
    got = run(spec, make_reduce(w, form=spec.library.form), [x], w.out_shape, "uint8")
    np.testing.assert_array_equal(got, x.max(axes, keepdims=True))
