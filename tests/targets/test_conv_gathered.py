"""Taps of few channels that are copied next to each other: fewer steps, the same integers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from conv_reference import carried, draw_arguments, expected, run_kernel
from test_conv2d import spec_that_runs_here

from tvm_rsq.targets.generic.conv2d import step_geometry
from tvm_rsq.targets.generic.tiles import Tile
from tvm_rsq.targets.parse import parse_target
from tvm_rsq.targets.workload import Conv2DWorkload, Epilogue

LAYER = carried(
    Conv2DWorkload(
        batch=2, height=9, width=11, in_channels=3, out_channels=32, kernel=(3, 3), stride=(2, 2), padding=(1, 1, 1, 1),
        input_zero_point=9, epilogue=Epilogue(per_channel=True, zero_point=100),
    ),
    "int8",
)  # fmt: skip
SHAPES = {
    "padded": LAYER,
    "without padding": replace(LAYER, padding=(0, 0, 0, 0)),
    "7x7": replace(LAYER, kernel=(7, 7), padding=(3, 2, 3, 4), out_channels=20),
    "one channel": replace(LAYER, in_channels=1, kernel=(5, 5), stride=(1, 1), batch=1, out_channels=64),
    "dilated rows": replace(LAYER, dilation=(2, 1)),
    "one pixel": replace(LAYER, height=3, width=3, padding=(0, 0, 0, 0), batch=1),
}


def gathers(w: Conv2DWorkload, target: str) -> bool:
    library = parse_target(target).library
    step = library._steps(w)[0]
    return step_geometry(w, step).gathered is not None


@pytest.mark.parametrize("cpu", ["cortex-a76", "neoverse-n2"])
def test_dot_and_matrix_products_take_gathered_taps_too(cpu):
    spec, w = spec_that_runs_here(cpu), replace(LAYER, out_channels=512)
    assert gathers(w, cpu)
    a = draw_arguments(w, np.random.default_rng(0), extreme=False)
    np.testing.assert_array_equal(run_kernel(spec, w, a), expected(w, a))


@pytest.mark.parametrize("extreme", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_gathered_taps_give_the_same_integers(shape, extreme):
    spec, w = spec_that_runs_here("cortex-a72"), SHAPES[shape]
    assert gathers(w, "cortex-a72")
    rng = np.random.default_rng(0)
    a = draw_arguments(w, rng, extreme=extreme)
    tiles = [choice for choice in spec.library.conv2d_space(w) if isinstance(choice, Tile)]
    for tile in {tiles[0], tiles[-1], *rng.choice(np.array(tiles, object), 2)}:
        np.testing.assert_array_equal(run_kernel(spec, w, a, spec.library.conv2d(w, tile)), expected(w, a))


def test_taps_are_gathered_where_that_saves_steps():
    assert gathers(LAYER, "aarch64")
    for w in (replace(LAYER, in_channels=16), replace(LAYER, kernel=(1, 1)), replace(LAYER, kernel=(1, 3)), replace(LAYER, out_channels=4)):
        assert not gathers(w, "aarch64"), w
    assert not gathers(replace(LAYER, in_channels=4), "cortex-a76")  # whole steps of four already
    assert not gathers(replace(SHAPES["7x7"], out_channels=64), "cortex-a76")  # fewer by an eighth, which the copy costs
    assert not any(gathers(replace(LAYER, in_dtype="uint8"), target) for target in ("haswell", "x86-64-vnni", "llvm"))
