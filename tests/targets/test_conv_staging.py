from __future__ import annotations

import numpy as np
import pytest
from conv_reference import draw_arguments, expected, run_kernel
from exact_reference import spec_that_runs_here

from tvm_rsq.targets.generic.conv2d import conv2d
from tvm_rsq.targets.generic.tiles import Tile
from tvm_rsq.targets.workload import Conv2DWorkload, Epilogue
from tvm_rsq.targets.x86_64.steps import MaddStep

MADD = MaddStep(lanes=8, registers=16, name="madd256")


def pointwise(height: int, width: int, in_channels: int, out_channels: int, **changes) -> Conv2DWorkload:
    given = {"batch": 1, "input_zero_point": 9, "epilogue": Epilogue(per_channel=True, zero_point=100), **changes}
    size = {"height": height, "width": width, "in_channels": in_channels, "out_channels": out_channels}
    return Conv2DWorkload(**size, kernel=(1, 1), **given)


def parallel_loops(w: Conv2DWorkload, tile: Tile) -> int:
    return conv2d(w, MADD, "fma", tile).prim_func.script().count("T.parallel(")


# 195 and 330 pixels, which no tile divides; odd channels, whose last pair reads behind the last pixel; groups; joined images.
OWN = {
    "odd": pointwise(13, 15, 5, 24),
    "groups": pointwise(13, 15, 12, 34, groups=2),
    "images": pointwise(11, 15, 7, 9, batch=2, epilogue=Epilogue(residual=True, zero_point=7)),
}


# The last segment of 195 pixels is one tile, moved back.
@pytest.mark.parametrize(("cols", "segment"), [(7, 3), (5, 4), (1, 1)])
@pytest.mark.parametrize("name", OWN)
def test_pixels_that_each_task_converts_for_itself(name, cols, segment):
    w, spec = OWN[name], spec_that_runs_here("haswell")
    tile = Tile(step="madd256", lanes=8, cols=cols, vecs=1, segment=segment, outer="rows")
    assert parallel_loops(w, tile) == 1
    a = draw_arguments(w, np.random.default_rng(5), extreme=cols == 5)
    np.testing.assert_array_equal(run_kernel(spec, w, a, conv2d(w, MADD, "fma", tile)), expected(w, a))


def test_where_tasks_are_few_or_share_pixels_the_input_is_converted_ahead():
    tile = Tile(step="madd256", lanes=8, cols=5, vecs=2, segment=4, outer="rows")
    assert parallel_loops(pointwise(14, 14, 32, 64), tile) == 1
    assert parallel_loops(pointwise(7, 7, 32, 64), tile) == 2  # three row segments, that two threads could not share evenly
    channels = Tile(step="madd256", lanes=8, cols=5, vecs=2, segment=4, outer="channels")
    assert parallel_loops(pointwise(14, 14, 32, 64), channels) == 2
    assert parallel_loops(pointwise(28, 28, 32, 64, stride=(2, 2)), tile) == 2


# One row is not yet a flat one: neighbours overlap in the input, or padding lies between the images.
@pytest.mark.parametrize(("batch", "width", "padding"), [(1, 330, (0, 1, 0, 1)), (1, 332, (0, 0, 0, 0)), (16, 23, (0, 0, 0, 0))])
def test_images_of_one_row_are_converted_ahead(batch, width, padding):
    w = Conv2DWorkload(
        batch=batch, height=1, width=width, in_channels=6, out_channels=16, kernel=(1, 3), padding=padding, input_zero_point=9,
        epilogue=Epilogue(per_channel=True, zero_point=100),
    )  # fmt: skip
    tile = Tile(step="madd256", lanes=8, cols=5, vecs=2, segment=2, outer="rows", span="image" if batch > 1 else "row")
    spec, a = spec_that_runs_here("haswell"), draw_arguments(w, np.random.default_rng(5), extreme=False)
    np.testing.assert_array_equal(run_kernel(spec, w, a, conv2d(w, MADD, "fma", tile)), expected(w, a))
    np.testing.assert_array_equal(run_kernel(spec, w, a), expected(w, a))
