from __future__ import annotations

import numpy as np
import pytest
from exact_reference import quantized, run, spec_that_runs_here
from resize_reference import COORDINATE, ROUND, index_map

from tvm_rsq.errors import UnsupportedError
from tvm_rsq.targets.generic.resize import make_resize_nearest
from tvm_rsq.targets.workloads_movement import ResizeNearestWorkload


@pytest.mark.parametrize("rounding", ROUND)
@pytest.mark.parametrize("coordinates", COORDINATE)
def test_resize_nearest(coordinates, rounding):
    spec = spec_that_runs_here("llvm")
    for size, out in [((4, 5), (8, 10)), ((7, 6), (3, 4)), ((3, 8), (1, 20))]:
        x = quantized(np.random.default_rng(0), (1, *size, 8), extreme=False)
        rows, columns = (index_map(s, o, coordinates, rounding) for s, o in zip(size, out, strict=True))
        w = ResizeNearestWorkload(shape=x.shape, out_size=out, coordinates=coordinates, rounding=rounding)
        got = run(spec, make_resize_nearest(w), [x], (1, *out, 8), "uint8")
        np.testing.assert_array_equal(got, x[:, rows][:, :, columns])


@pytest.mark.parametrize("field", ["coordinates", "rounding"])
def test_unknown_modes_are_refused(field):
    with pytest.raises(UnsupportedError, match="tf_crop_and_resize"):
        make_resize_nearest(ResizeNearestWorkload(shape=(1, 2, 2, 4), out_size=(4, 4), **{field: "tf_crop_and_resize"}))
