"""Weights that fit int16 only as `accumulate16` groups them: a kernel that sums others together is wrong by a multiple of 2^16."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from conv_reference import carried, draw_arguments, expected, run_kernel
from test_conv2d import spec_that_runs_here

from tvm_rsq.safe_weights import keeps_promise
from tvm_rsq.sum_groups import fits
from tvm_rsq.targets.generic.tiles import Tile
from tvm_rsq.targets.workload import Conv2DWorkload, Epilogue

PLAIN = Conv2DWorkload(
    batch=1, height=6, width=5, in_channels=64, out_channels=12, kernel=(1, 1), input_zero_point=255, epilogue=Epilogue(zero_point=100)
)
CASES = {
    "pointwise": PLAIN,
    "a short last block": replace(PLAIN, in_channels=88),
    "less than a block": replace(PLAIN, in_channels=24),
    "3x3, padded": replace(PLAIN, kernel=(3, 3), padding=(1, 1, 1, 1)),
    "3x3, strided": replace(PLAIN, kernel=(3, 3), stride=(2, 2)),
    "3x3, dilated": replace(PLAIN, kernel=(3, 3), dilation=(2, 2)),
    "groups": replace(PLAIN, in_channels=128, groups=2),
    "groups, each less than a block": replace(PLAIN, in_channels=48, groups=2),
    "depthwise": replace(PLAIN, in_channels=24, out_channels=24, groups=24, kernel=(3, 3), padding=(1, 1, 1, 1)),
}


def tight_weights(w: Conv2DWorkload, rng: np.random.Generator) -> np.ndarray:
    """OHWI: in every group of Conv2DWorkload.accumulate16 two sizes of 127, a 1 and zeros, 255 together, of one sign."""
    inner, products = w.in_channels // w.groups, w.accumulate16 // 8
    width, run = 1 if inner == 1 else 8, w.kernel[0] * w.kernel[1] * inner
    sizes = np.zeros((w.out_channels, -(-run // (products * width)), products, width), np.int64)
    sizes[:, :, :3] = np.array([127, 127, 1])[:, None]
    sizes = rng.permuted(sizes, axis=2) * rng.choice([-1, 1], (*sizes.shape[:2], 1, width))
    return sizes.reshape(w.out_channels, -1)[:, :run].reshape(w.out_channels, *w.kernel, inner).astype("int8")


@pytest.mark.parametrize("promise", [32, 64])
@pytest.mark.parametrize("case", CASES)
def test_every_kernel_sums_what_the_promise_is_about(case, promise):
    spec, w = spec_that_runs_here("cortex-a72"), carried(replace(CASES[case], accumulate16=promise), "int8")
    inner = w.in_channels // w.groups
    a = draw_arguments(w, np.random.default_rng(0), extreme=True)
    a = replace(a, weight=tight_weights(w, np.random.default_rng(promise)), data=np.zeros_like(a.data))  # stored as -128
    rows = a.weight.reshape(len(a.weight), -1)
    assert fits(inner, rows.shape[1], promise) and keeps_promise(rows, promise, inner)
    space = spec.library.conv2d_space(w)
    steps = {choice.step: choice for choice in reversed(space) if isinstance(choice, Tile)}
    for choice in steps.values() or space[:1]:
        np.testing.assert_array_equal(run_kernel(spec, w, a, spec.library.conv2d(w, choice)), expected(w, a), err_msg=str(choice))
    assert f"smlal{promise}" in steps or w.is_depthwise and spec.library.conv2d(w).name.startswith(f"depthwise_smlal{promise // 8}")


@pytest.mark.parametrize("case", ["pointwise", "depthwise"])
def test_other_groups_show(case):
    spec, w = spec_that_runs_here("cortex-a72"), carried(replace(CASES[case], accumulate16=64), "int8")
    a = draw_arguments(w, np.random.default_rng(0), extreme=True)
    weight = np.zeros_like(a.weight).reshape(len(a.weight), -1)
    weight[:, : 4 if w.is_depthwise else 32] = 127  # four of a group, none of others
    a = replace(a, weight=weight.reshape(a.weight.shape), data=np.zeros_like(a.data))
    assert (run_kernel(spec, w, a) != expected(w, a)).any()
