import numpy as np
import pytest

from tvm_rsq.augment import augmented
from tvm_rsq.calibration_set import CalibrationSet


def _set(*shapes, seed=0) -> CalibrationSet:
    rng = np.random.default_rng(seed)
    return CalibrationSet(inputs=tuple(rng.standard_normal(shape).astype(np.float32) for shape in shapes), source="zeroq", seed=3)


def test_views_follow_the_samples_and_hold_their_pixels():
    given = _set((3, 3, 20, 30))
    before = given.inputs[0].copy()
    made = augmented(given, 4, 7)
    (images,) = made.inputs
    assert images.shape == (12, 3, 20, 30) and images.dtype == np.float32 and (made.source, made.seed) == ("zeroq", 3)
    np.testing.assert_array_equal(images[:3], before)
    np.testing.assert_array_equal(given.inputs[0], before)
    for view in range(1, 4):
        for sample in range(3):
            found = images[3 * view + sample]
            assert not np.array_equal(found, before[sample]) and set(found[1].ravel()) <= set(before[sample, 1].ravel())


@pytest.mark.parametrize("seed", range(5))
def test_a_view_is_a_shift_with_the_border_reflected(seed):
    rows, columns = np.mgrid[0:20, 0:30]
    given = CalibrationSet(inputs=(np.stack([rows, columns])[None].astype(np.float32),))
    one, two = augmented(given, 3, seed).inputs[0][1:]
    for view, mirrored in ((one, True), (two, False)):
        down = view[0, :, 0]
        across = view[1, 0, ::-1] if mirrored else view[1, 0]
        for line, extent in ((down, 20), (across, 30)):
            steps = np.diff(line)
            assert set(steps) <= {-1.0, 1.0} and (steps == 1).sum() >= 0.85 * extent - 1  # a tenth at most is reflected


def test_inputs_of_a_sample_move_alike_and_what_is_no_image_is_repeated():
    images = _set((2, 1, 16, 16)).inputs[0]
    other = np.arange(10, dtype=np.float32).reshape(2, 5)
    made = augmented(CalibrationSet(inputs=(images, 2 * images, other)), 3, 0).inputs
    np.testing.assert_array_equal(made[1], 2 * made[0])
    np.testing.assert_array_equal(made[2], np.tile(other, (3, 1)))


def test_the_seed_decides_and_nothing_is_repeated_for_nothing():
    given = _set((2, 3, 16, 16))
    np.testing.assert_array_equal(augmented(given, 4, 1).inputs[0], augmented(given, 4, 1).inputs[0])
    assert not np.array_equal(augmented(given, 4, 1).inputs[0], augmented(given, 4, 2).inputs[0])
    assert augmented(given, 1, 0) is given
    for tiny in (_set((2, 3, 2, 2)), _set((2, 1, 49, 9))):
        assert augmented(tiny, 8, 0) is tiny
    features = _set((2, 64, 8, 8), (2, 7))
    assert augmented(features, 8, 0) is features
