from __future__ import annotations

import numpy as np
import pytest
from exact_reference import CPUS, quantized, run, spec_that_runs_here

from tvm_rsq.targets.generic.lookup import make_clamp, make_lookup
from tvm_rsq.targets.workloads_elementwise import ClampWorkload, LookupWorkload

SHAPES = [(256,), (1, 3, 5, 16), (2, 7, 13)]


@pytest.mark.parametrize("cpu", CPUS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("out", ["uint8", "float32"])
def test_lookup(cpu, shape, out):
    rng = np.random.default_rng(0)
    q = np.arange(256, dtype="uint8") if shape == (256,) else quantized(rng, shape, extreme=False)
    table = rng.permutation(256).astype(out)
    kernel = make_lookup(LookupWorkload(shape=shape, out=out))
    np.testing.assert_array_equal(run(spec_that_runs_here(cpu), kernel, [q, table], shape, out), table[q])


def test_lookup_of_int8_counts_from_the_least_value():
    q = np.arange(-128, 128, dtype="int8")
    table = np.arange(256)[::-1].astype("uint8")
    kernel = make_lookup(LookupWorkload(shape=(256,), dtype="int8"))
    np.testing.assert_array_equal(run(spec_that_runs_here("llvm"), kernel, [q, table], (256,), "uint8"), table)


@pytest.mark.parametrize("cpu", CPUS)
@pytest.mark.parametrize("shape", SHAPES)
def test_clamp(cpu, shape):
    q = quantized(np.random.default_rng(1), shape, extreme=False)
    kernel = make_clamp(ClampWorkload(shape=shape, qmin=17, qmax=201))
    np.testing.assert_array_equal(run(spec_that_runs_here(cpu), kernel, [q], shape, "uint8"), np.clip(q, 17, 201))


def test_clamp_of_int8_compares_signed():
    q = np.arange(-128, 128, dtype="int8")
    kernel = make_clamp(ClampWorkload(shape=(256,), dtype="int8", qmin=-100, qmax=50))
    np.testing.assert_array_equal(run(spec_that_runs_here("llvm"), kernel, [q], (256,), "int8"), np.clip(q, -100, 50))
