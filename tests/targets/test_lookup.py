from __future__ import annotations

import numpy as np
import pytest
import tvm
from exact_reference import CPUS, quantized, run, spec_that_runs_here
from hypothesis import given, settings
from hypothesis import strategies as st
from tvm import tirx

from tvm_rsq.targets.generic.flat_kernel import Argument, flat_kernel
from tvm_rsq.targets.generic.lookup import make_clamp, make_lookup
from tvm_rsq.targets.parse import parse_target
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


@pytest.mark.parametrize("cpu", ["haswell", "icelake-server", "x86-64", "cortex-a72"])
@settings(max_examples=8, deadline=None, derandomize=True)
@given(size=st.sampled_from([1, 31, 32, 33, 100, 128, 40000]), dtype=st.sampled_from(["uint8", "int8"]), seed=st.integers(0, 99))
def test_lookup_of_the_library(cpu, size, dtype, seed):
    rng = np.random.default_rng(seed)
    q = quantized(rng, (size,), extreme=False, dtype=dtype)
    q[: min(size, 256)] = np.arange(256)[: min(size, 256)].astype(dtype)
    table = rng.integers(0, 256, 256).astype("uint8")
    spec = spec_that_runs_here(cpu)
    kernel = spec.library.lookup(LookupWorkload(shape=(size,), dtype=dtype))
    expected = table[q.astype(int) - np.iinfo(dtype).min]
    np.testing.assert_array_equal(run(spec, kernel, [q, table], (size,), "uint8"), expected)


@pytest.mark.parametrize(
    ("cpu", "instruction"),
    [("haswell", "vpblendvb"), ("icelake-server", "vpermi2b"), ("skylake-avx512", "vpshufb"), ("cortex-a72", "tbx")],
)
def test_lookup_uses_the_instruction_that_the_cpu_has(cpu, instruction):
    spec = parse_target(cpu)
    module = tvm.IRModule({"main": spec.library.lookup(LookupWorkload(shape=(1, 100))).prim_func})
    assembly = tvm.compile(module, target=spec.tvm_target()).mod.inspect_source("asm")
    assert instruction in assembly or instruction.replace("i2", "t2") in assembly


@pytest.mark.parametrize("size", [1, 15, 16, 17, 40007])
def test_the_last_vector_of_a_flat_kernel_overlaps(size):
    q = quantized(np.random.default_rng(2), (size,), extreme=False)
    kernel = flat_kernel(
        "half", [Argument("q", (size,), "uint8")], [], Argument("output", (size,), "uint8"), lambda q: q // tirx.const(2, "uint8")
    )
    np.testing.assert_array_equal(run(spec_that_runs_here("llvm"), kernel, [q], (size,), "uint8"), q // 2)


@pytest.mark.parametrize("cpu", CPUS)
@pytest.mark.parametrize("shape", SHAPES)
def test_clamp(cpu, shape):
    q = quantized(np.random.default_rng(1), shape, extreme=False)
    kernel = make_clamp(ClampWorkload(shape=shape, qmin=17, qmax=201))
    np.testing.assert_array_equal(run(spec_that_runs_here(cpu), kernel, [q], shape, "uint8"), np.clip(q, 17, 201))


def test_clamp_of_int8_compares_signed():
    q = np.arange(-128, 128, dtype="int8")
    kernel = make_clamp(ClampWorkload(shape=(256,), dtype="int8", qmin=28, qmax=178))
    np.testing.assert_array_equal(run(spec_that_runs_here("llvm"), kernel, [q], (256,), "int8"), np.clip(q, -100, 50))
