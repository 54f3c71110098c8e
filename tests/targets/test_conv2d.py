from __future__ import annotations

import re

import numpy as np
import pytest
import tvm
from conv_reference import carried, draw_arguments, expected, run_kernel
from emulated_x86 import spec_that_runs_here
from hypothesis import given, settings
from hypothesis import strategies as st

from tvm_rsq.targets.parse import parse_target
from tvm_rsq.targets.spec import TargetSpec
from tvm_rsq.targets.workload import Conv2DWorkload, Epilogue

# This machine, AVX2 with FMA, SSE2 without (where requantization goes through float64), AVX-512 without and with VNNI, and AVX-VNNI;
# NEON alone, with a dot product, and with products of matrices.
TARGETS = ["llvm", "haswell", "x86-64", "skylake-avx512", "x86-64-vnni", "alderlake", "cortex-a72", "cortex-a76", "neoverse-n2"]


@st.composite
def epilogues(draw) -> Epilogue:
    out = draw(st.sampled_from(["uint8", "uint8", "float32"]))
    qmin = draw(st.sampled_from([0, 3]))
    return Epilogue(
        out=out,
        per_channel=draw(st.booleans()),
        residual=draw(st.booleans()),
        zero_point=draw(st.integers(0, 255)),
        qmin=qmin,
        qmax=draw(st.sampled_from([255, 63])),
        low=draw(st.sampled_from([float("-inf"), 0.0])),
        high=draw(st.sampled_from([float("inf"), 6.0])),
    )


@st.composite
def workloads(draw) -> Conv2DWorkload:
    groups = draw(st.sampled_from([1, 1, 1, 2, 3]))
    channels = st.sampled_from([1, 2, 3, 4, 7, 8, 16, 18, 33])
    kernel = draw(st.sampled_from([(1, 1), (1, 1), (3, 3), (1, 3), (5, 2), (7, 7)]))
    dilation = draw(st.sampled_from([(1, 1), (1, 1), (2, 1), (1, 2)]))
    padding = draw(st.sampled_from([(0, 0, 0, 0), (1, 1, 1, 1), (0, 2, 1, 0)]))
    least = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    return Conv2DWorkload(
        batch=draw(st.integers(1, 2)),
        height=least[0] + draw(st.integers(0, 5)),
        width=least[1] + draw(st.integers(0, 16)),
        in_channels=groups * draw(channels),
        out_channels=groups * draw(channels),
        kernel=kernel,
        stride=draw(st.sampled_from([(1, 1), (1, 1), (2, 2), (1, 3)])),
        padding=padding,
        dilation=dilation,
        groups=groups,
        input_zero_point=draw(st.sampled_from([0, 7, 255])),
        epilogue=draw(epilogues()),
    )


@pytest.mark.parametrize("target", TARGETS)
@settings(max_examples=15, deadline=None, derandomize=True)
@given(w=workloads(), extreme=st.booleans(), seed=st.integers(0, 2**16))
def test_equal_to_the_reference_bit_for_bit(target, w, extreme, seed):
    a = draw_arguments(w, np.random.default_rng(seed), extreme=extreme)
    np.testing.assert_array_equal(run_kernel(spec_that_runs_here(target), w, a), expected(w, a))


# Shapes that take a path of their own: the whole tile, its overlapping last one, tiny and odd channels, joined images.
CORNERS = {
    "whole tiles": dict(height=4, width=28, in_channels=64, out_channels=64, kernel=(3, 3), padding=(1, 1, 1, 1)),
    "prime width": dict(height=2, width=29, in_channels=16, out_channels=48, kernel=(3, 3), padding=(1, 1, 1, 1)),
    "staged by each segment": dict(height=12, width=12, in_channels=16, out_channels=24, kernel=(1, 1), batch=2),
    "small and converted": dict(height=4, width=4, in_channels=8, out_channels=16, kernel=(1, 1)),
    "49 pixels": dict(height=7, width=7, in_channels=32, out_channels=24, kernel=(1, 1), batch=3),
    "first layer": dict(height=19, width=19, in_channels=3, out_channels=32, kernel=(7, 7), stride=(2, 2), padding=(3, 3, 3, 3)),
    "dense": dict(height=1, width=1, in_channels=130, out_channels=1000, kernel=(1, 1)),
    "dense, batch": dict(height=1, width=1, in_channels=64, out_channels=10, kernel=(1, 1), batch=5),
    "one channel": dict(height=5, width=5, in_channels=1, out_channels=1, kernel=(3, 3)),
    "groups": dict(height=5, width=5, in_channels=24, out_channels=60, kernel=(3, 3), padding=(1, 1, 1, 1), groups=3),
    "channel multiplier": dict(height=5, width=5, in_channels=6, out_channels=12, kernel=(3, 3), groups=6),
}


@pytest.mark.parametrize("corner", CORNERS)
@pytest.mark.parametrize("target", TARGETS)
def test_corner(target, corner):
    w = Conv2DWorkload(**{"batch": 1, **CORNERS[corner]}, input_zero_point=9, epilogue=Epilogue(per_channel=True, zero_point=100))
    a = draw_arguments(w, np.random.default_rng(0), extreme=False)
    np.testing.assert_array_equal(run_kernel(spec_that_runs_here(target), w, a), expected(w, a))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("groups", [1, 2, 6])
def test_float(target, groups):
    e = Epilogue(out="float32", residual=True, low=0.0, high=6.0)
    w = Conv2DWorkload(
        batch=2, height=6, width=17, in_channels=6, out_channels=6 * (3 - min(groups, 2)), kernel=(3, 3), stride=(2, 1),
        padding=(1, 0, 1, 2), groups=groups, in_dtype="float32", epilogue=e,
    )  # fmt: skip
    a = draw_arguments(w, np.random.default_rng(1), extreme=False)
    # 54 products of normal values: rounding errors add up to at most 55 units in the last place of sums below 64.
    np.testing.assert_allclose(run_kernel(spec_that_runs_here(target), w, a), expected(w, a), rtol=0, atol=55 * 64 * 2.0**-24)


def test_activations_of_another_carrier_are_refused():
    w = Conv2DWorkload(batch=1, height=4, width=4, in_channels=16, out_channels=16, kernel=(1, 1))
    for target in ("cortex-a72", "cortex-a76", "neoverse-n2"):
        with pytest.raises(ValueError, match="in_dtype is uint8, expected int8"):
            parse_target(target).library.conv2d(w)
    with pytest.raises(ValueError, match="in_dtype is int8, expected uint8"):
        parse_target("x86-64-vnni").library.conv2d(carried(w, "int8"))


def test_the_check_sees_a_wrong_bias():
    w = Conv2DWorkload(batch=1, height=4, width=4, in_channels=4, out_channels=8, kernel=(3, 3), epilogue=Epilogue(zero_point=100))
    a = draw_arguments(w, np.random.default_rng(0), extreme=False)
    got = run_kernel(spec_that_runs_here("llvm"), w, a)
    a.bias[3] += 1000
    assert (got[..., 3] != expected(w, a)[..., 3]).any()


@pytest.mark.parametrize(
    ("target", "instruction"),
    [
        ("x86-64-vnni", "vpdpbusd"), ("alderlake", "vpdpbusd"), ("haswell", "vpmaddwd"), ("x86-64", "pmaddwd"), ("aarch64", "fmla"),
        ("cortex-a72", r"smlal\tv\d+\.4s, v\d+\.4h, v\d+\.h\["), ("cortex-a76", r"sdot\tv\d+\.4s, v\d+\.16b, v\d+\.4b\["),
        ("neoverse-n2", "smmla"),
    ],
)  # fmt: skip
def test_uses_the_instruction_that_the_cpu_has(target, instruction):
    spec = parse_target(target)
    w = Conv2DWorkload(
        batch=1, height=14, width=14, in_channels=32, out_channels=32, kernel=(3, 3), padding=(1, 1, 1, 1),
        epilogue=Epilogue(zero_point=3, per_channel=True),
    )  # fmt: skip
    assembly = _assembly(spec, w)
    assert re.search(instruction, assembly)
    # No maths library call is left in the epilogue.
    assert "fmaf" not in assembly


def _assembly(spec: TargetSpec, w: Conv2DWorkload) -> str:
    module = tvm.IRModule({"main": spec.library.conv2d(carried(w, spec.library.carrier)).prim_func})
    return tvm.compile(module, target=spec.tvm_target()).mod.inspect_source("asm")
