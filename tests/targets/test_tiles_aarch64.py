"""Untuned tiles of aarch64 that counts decided: a cost that changes them has to be counted again (docs/measurements/aarch64-tuning.md)."""

from __future__ import annotations

import pytest

from tvm_rsq.targets.parse import parse_target
from tvm_rsq.targets.workload import Conv2DWorkload


@pytest.mark.parametrize(
    ("cpu", "size", "channels", "kernel", "step", "tile"),
    [
        ("cortex-a72", 28, (32, 192), 1, "smlal16", (1, 2)),  # two steps, whose weights stay in registers
        ("cortex-a72", 14, (96, 576), 1, "smlal16", (2, 2)),  # as many loads as 4x1, and half of the stores
        ("cortex-a72", 1, (512, 1000), 1, "smlal16", (1, 3)),  # no second pixel that would use them again
        ("cortex-a76", 28, (32, 192), 1, "sdot", (5, 2)),  # eight steps, whose weights stay in registers
        ("cortex-a76", 56, (64, 64), 3, "sdot", (8, 2)),
        ("neoverse-n2", 14, (64, 384), 1, "smmla", (4, 4)),  # pixels are put together by pairs, which takes longer than weights
        ("neoverse-n2", 28, (128, 128), 3, "smmla", (4, 4)),
    ],
)
def test_the_untuned_tile(cpu, size, channels, kernel, step, tile):
    data, out = channels
    w = Conv2DWorkload(
        batch=1, height=size, width=size, in_channels=data, out_channels=out, kernel=(kernel, kernel), padding=(kernel // 2,) * 4,
        in_dtype="int8",
    )  # fmt: skip
    found = parse_target(cpu).library.conv2d_space(w)[0]
    assert (found.step, (found.cols, found.vecs)) == (step, tile)
