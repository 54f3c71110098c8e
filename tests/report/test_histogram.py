from __future__ import annotations

import numpy as np
import pytest

from tvm_rsq.report import histogram


def test_every_weight_is_counted_and_levels_are_the_grid():
    weight = np.random.default_rng(0).normal(0, 1, (8, 3, 3, 4)).astype(np.float32)
    scale = float(np.abs(weight).max()) / 7
    found = histogram.build(weight, (scale,), 4)
    assert sum(found.counts) == weight.size
    assert len(found.edges) == len(found.counts) + 1
    np.testing.assert_allclose(found.levels, scale * np.arange(-7, 8))


def test_clipped_weights_lie_outside_the_levels():
    found = histogram.build(np.array([-4.0, 0.0, 1.0]), (0.5,), 4)
    assert max(found.levels) == 3.5 and found.edges[0] == -4.0 and sum(found.counts) == 3


def test_per_channel_levels_are_those_of_the_first_live_channel():
    found = histogram.build(np.ones((3, 2)), (0.0, 0.25, 9.0), 4)
    assert found.levels[-1] == 7 * 0.25


def test_the_levels_of_a_codebook_are_its_own():
    found = histogram.build(np.ones(4), (0.5, 9.0), 3, book=(-4, -1, 0, 1, 2, 3, 3, 3))
    assert found.levels == (-2.0, -0.5, 0.0, 0.5, 1.0, 1.5)
    assert histogram.build(np.ones(4), (2.0,), 3, book=(-0.25, 0.0, 1.0, *[1.0] * 5)).levels == (-0.5, 0.0, 2.0)


def test_a_float_layer_has_no_levels():
    assert histogram.build(np.ones(4), (), 32).levels == ()


def test_all_zero_weights_have_a_histogram():
    found = histogram.build(np.zeros(5), (), 8)
    assert sum(found.counts) == 5 and found.edges[0] < 0 < found.edges[-1]


@pytest.mark.parametrize("weight", [np.zeros(0), np.array([1.0, np.nan])])
def test_no_or_bad_weights_are_refused(weight):
    with pytest.raises(ValueError, match="finite"):
        histogram.build(weight, (1.0,), 8)
