"""Every kernel has a test that draws its shapes: those that are no convolutions here, for a CPU of each kind and, emulated, a GPU."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from exact_reference import run, spec_that_runs_here
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from random_draw import Drawn
from random_workloads import KERNELS, drawn

from tests.targets.emulated_cuda import run_here
from tvm_rsq.targets.carried import level_array, stored_array
from tvm_rsq.targets.cuda.library import CudaLibrary
from tvm_rsq.targets.generic.elementwise_library import ElementwiseKernels
from tvm_rsq.targets.kernel_library import KernelLibrary

CPUS = ("llvm", "haswell", "x86-64", "icelake-server", "cortex-a72")
# Convolutions and the expansion of codes, whose random shapes and choices are in files of their own.
ELSEWHERE = {
    "conv2d": ("test_conv2d", "test_conv_cuda", "test_conv_depthwise", "test_conv_space", "test_winograd"),
    "expand": ("test_code_kernels", "test_code_lookup_cuda", "test_slots"),
}


def check(d: Drawn, kernel: str, device: str) -> None:
    spec = spec_that_runs_here("llvm" if device == "cuda" else device)
    library = CudaLibrary(processors=8) if device == "cuda" else spec.library
    carrier = library.carrier
    out = {"out": carrier} if getattr(d.workload, "out", "float32") != "float32" else {}
    typed = {} if kernel == "dequantize" and not hasattr(d.workload, "dtype") else {"dtype": carrier}
    made = getattr(library, kernel)(replace(d.workload, **typed, **out))
    arguments = [*(stored_array(q, carrier) for q in d.levels), *d.rest]
    dtype = "float32" if d.expected.dtype == np.float32 else carrier
    if device == "cuda":
        arguments = [np.ascontiguousarray(array) for array in arguments]
        got = run_here(made.prim_func, *arguments, np.full(d.expected.shape, 77, dtype))
    else:
        got = run(spec, made, arguments, d.expected.shape, dtype)
    np.testing.assert_array_equal(got if dtype == "float32" else level_array(got), d.expected)


@pytest.mark.parametrize("device", [*CPUS, "cuda"])
@pytest.mark.parametrize("kernel", KERNELS)
@settings(max_examples=3, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_random_shapes(kernel, device, data):
    check(data.draw(drawn(kernel)), kernel, device)


def test_no_kernel_is_forgotten():
    makers = {
        name for library in (KernelLibrary, ElementwiseKernels) for name, method in vars(library).items()
        if getattr(method, "__annotations__", {}).get("return") == "Kernel"
    }  # fmt: skip
    assert makers == {*KERNELS, *ELSEWHERE}
    for files in ELSEWHERE.values():
        for file in files:
            assert "@given(" in (Path(__file__).parent / f"{file}.py").read_text("utf-8"), file
