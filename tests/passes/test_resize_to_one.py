"""Resizing to an extent of 1 with aligned corners, which TVM cannot: what it becomes, and what it answers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tvm import relax
from tvm.ir import IRModule, assert_structural_equal
from tvm.relax import op as R

from tests.tiny_networks import build
from tvm_rsq.compiler import compile_float
from tvm_rsq.executor import Executor
from tvm_rsq.passes.resize_to_one import legalize_resize2d

RULES = {"relax.image.resize2d": legalize_resize2d}


def resized(size: tuple[int, int], method: str = "linear", layout: str = "NHWC", mode: str = "align_corners"):
    return lambda emit, x, _: emit(
        R.image.resize2d(x, size, layout=layout, method=method, coordinate_transformation_mode=mode, rounding_method="floor")
    )


def legalized(size: tuple[int, int], mode: str = "align_corners") -> tuple[IRModule, IRModule]:
    before = build(resized(size, mode=mode), [(1, 3, 4, 2)], {}).module
    kept = before.script()
    after = relax.transform.LegalizeOps(RULES)(before)
    assert before.script() == kept
    return before, after


@pytest.mark.parametrize("size", [(1, 5), (2, 5)])
def test_one_row_is_the_first_of_two(size):
    _, after = legalized(size)
    text = after["resize2d"].script()
    assert ("first" in text) == (size[0] == 1) and "T.int64(2), T.int64(5)" in text
    assert "R.image.resize2d" not in after.script() and f"R.Tensor((1, {size[0]}, {size[1]}, 2)" in after["main"].script()


@pytest.mark.parametrize("mode", ["half_pixel", "asymmetric"])
def test_other_modes_are_tvms_own(mode):
    before, after = legalized((1, 5), mode)
    assert_structural_equal(after, relax.transform.LegalizeOps()(before))


@pytest.mark.parametrize("method", ["linear", "nearest_neighbor"])
@pytest.mark.parametrize("size", [(1, 1), (1, 7), (4, 1), (3, 5)])
@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
def test_the_answer_is_the_executors(method, size, layout):
    x = np.random.default_rng(0).standard_normal((2, 3, 4, 5), np.float32)
    model = build(resized(size, method, layout), [x.shape], {})
    (expected,) = Executor(model).run([torch.from_numpy(x)])
    np.testing.assert_allclose(compile_float(model).run(x), expected.numpy(), rtol=1e-6, atol=1e-6)
