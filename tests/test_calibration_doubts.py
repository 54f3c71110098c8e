"""Calibration data that is finite, of the right shape, and hardly what the network will see."""

from __future__ import annotations

import numpy as np

from tvm_rsq.calibration_doubts import calibration_doubts
from tvm_rsq.calibration_set import CalibrationSet

IMAGES = np.random.default_rng(0).standard_normal((4, 3, 16, 16)).astype(np.float32)


def doubts(*inputs: np.ndarray, source: str = "real") -> list[str]:
    return calibration_doubts(CalibrationSet(inputs=inputs, source=source))


def test_images_and_sparse_inputs_raise_none():
    sparse = np.zeros((4, 5000), np.float32)
    sparse[:, 7] = 1
    assert doubts(IMAGES) == doubts(IMAGES * 255, sparse) == []


def test_a_value_far_from_all_others_and_an_input_without_any_change():
    spoiled = IMAGES.copy()
    spoiled[2, 1, 3, 3] = -1e38
    (said,) = doubts(spoiled)
    assert said.startswith("calibration input 0 holds 1e+38, and 99.9 % of all values stay below 3")
    (said,) = doubts(IMAGES, np.full((4, 2), 0.5, np.float32))
    assert said == "calibration input 1 is 0.5 everywhere: its range says little about other values"


def test_what_was_made_here_is_not_doubted():
    assert doubts(np.zeros((2, 3, 4, 4), np.float32), source="gaussian") == []
