from __future__ import annotations

import numpy as np
import pytest
import tvm
from exact_reference import CPUS, quantized, run, spec_that_runs_here

from tvm_rsq.targets.generic.movement import make_pad, make_permute, make_strided_slice
from tvm_rsq.targets.workloads_movement import PadWorkload, PermuteWorkload, StridedSliceWorkload


def moved(cpu, kernel, x, expected):
    np.testing.assert_array_equal(run(spec_that_runs_here(cpu), kernel, [x], expected.shape, "uint8"), expected)


def image(*shape):
    return quantized(np.random.default_rng(0), shape, extreme=False)


@pytest.mark.parametrize("cpu", CPUS)
@pytest.mark.parametrize(
    ("shape", "axes"),
    [
        ((1, 5, 6, 16), (0, 3, 1, 2)),
        ((1, 19, 3, 4), (0, 2, 3, 1)),
        ((2, 3, 5, 2, 29), (0, 1, 2, 4, 3)),
        ((3, 32), (1, 0)),
        ((2, 3, 8), (1, 0, 2)),
    ],
)
def test_permute(cpu, shape, axes):
    x = image(*shape)
    moved(cpu, make_permute(PermuteWorkload(shape=shape, permutation=axes)), x, x.transpose(axes))


@pytest.mark.parametrize("groups", [2, 3, 4])
def test_a_channel_shuffle_is_vectorised(groups):
    """Large enough to be parallel: the axis that LLVM vectorises over must not be fused with those that threads share."""
    spec = spec_that_runs_here("haswell")
    x = image(1, 28, 28, groups, 58)
    kernel = make_permute(PermuteWorkload(shape=x.shape, permutation=(0, 1, 2, 4, 3)))
    moved("haswell", kernel, x, x.transpose(0, 1, 2, 4, 3))
    assembly = tvm.compile(tvm.IRModule({"main": kernel.prim_func}), target=spec.tvm_target()).mod.inspect_source("asm")
    assert "vpunpckl" in assembly
    assert "vpinsrb" not in assembly  # what gathers bytes one by one


@pytest.mark.parametrize("cpu", CPUS)
@pytest.mark.parametrize(("before", "after"), [((0, 1, 2, 0), (0, 3, 0, 0)), ((0, 0, 0, 1), (0, 0, 0, 2)), ((0, 0, 0, 0), (0, 0, 0, 0))])
def test_pad(cpu, before, after):
    x = image(2, 3, 4, 16)
    kernel = make_pad(PadWorkload(shape=x.shape, before=before, after=after, value=131))
    moved(cpu, kernel, x, np.pad(x, list(zip(before, after, strict=True)), constant_values=131))


@pytest.mark.parametrize("cpu", CPUS)
def test_strided_slice(cpu):
    x = image(2, 7, 9, 24)
    for slices, begin, strides in [
        (np.s_[:, :, :, 8:16], (0, 0, 0, 8), (1, 1, 1, 1)),
        (np.s_[1:, ::2, 1::3, :], (1, 0, 1, 0), (1, 2, 3, 1)),
        (np.s_[:, :, ::-1, 3:20:2], (0, 0, 8, 3), (1, 1, -1, 2)),
    ]:
        expected = np.ascontiguousarray(x[slices])
        w = StridedSliceWorkload(shape=x.shape, begin=begin, strides=strides, out_shape=expected.shape)
        moved(cpu, make_strided_slice(w), x, expected)
