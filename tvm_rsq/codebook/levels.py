"""Levels: the few values that a layer's weights may take, in units of each channel's scale, and what every way to find them has in common.

A way to find levels is a function (values, weights, count) -> levels:

    values   float64 (n,), ascending: weights in units of their scales, n >= 1
    weights  float64 (n,), at least 0: what a squared error of each value counts
    count    of levels at most, at least 3
    levels   float64 (count or less,), strictly ascending, 0 among them: zeros are many in trained networks, and stay what they are
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Levels = Callable[[np.ndarray, np.ndarray, int], np.ndarray]


def nearest(levels: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Index of the closest level to each value, of two the higher.   int64 of values' shape"""
    return np.searchsorted((levels[1:] + levels[:-1]) / 2, values, side="right")


def squared_error(levels: np.ndarray, values: np.ndarray, weights: np.ndarray) -> float:
    """sum weights * (values - nearest level)^2"""
    return float((weights * np.square(values - levels[nearest(levels, values)])).sum())


def with_zero(levels: np.ndarray) -> np.ndarray:
    """The level closest to 0 moved there; equal ones dropped."""
    moved = np.sort(levels)
    moved[np.argmin(np.abs(moved))] = 0.0
    return np.unique(moved)


def check(values: np.ndarray, count: int) -> None:
    """ValueError: no values, or fewer than 3 levels."""
    if not values.size or count < 3:
        raise ValueError(f"{values.size} values on {count} levels, expected at least 1 value and 3 levels")
