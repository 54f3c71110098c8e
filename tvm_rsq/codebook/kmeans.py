"""Levels by k-means in one dimension: the least squared error that levels can have of which one is 0.

On a line clusters are intervals, so the best of all is found by dynamic programming over where they end (Wang and Song, "Ckmeans.1d.dp",
The R Journal 2011), here with one cluster around 0 instead of its mean; exact up to 512 values, over as many bins of more. Lloyd's
iteration refines it on all values.
"""

from __future__ import annotations

import numpy as np

from tvm_rsq.codebook.bins import Bins, binned
from tvm_rsq.codebook.levels import check

_BINS = 512
_LLOYD_STEPS = 50


def kmeans_levels(values: np.ndarray, weights: np.ndarray, count: int) -> np.ndarray:
    """As Levels.   ValueError: see levels.check"""
    check(values, count)
    return lloyd(best_levels(binned(values, weights, _BINS), count), values, weights)


def best_levels(bins: Bins, count: int) -> np.ndarray:
    """Levels of the least squared error, where values are only told apart by their bin. Clusters may be empty."""
    ends, mean, zero = np.arange(len(bins) + 1), bins.variations(), bins.moments()
    plain, used = mean[0], zero[0]  # least errors up to each bin: without the cluster around 0, and with it
    came: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []  # where the last cluster starts: of both, and whether it is that around 0
    for _ in range(count - 1):
        ways = np.stack([plain[:, None] + mean, used[:, None] + mean, plain[:, None] + zero])
        starts = ways.argmin(axis=1)
        least = np.take_along_axis(ways, starts[:, None], axis=1)[:, 0]
        last = least[2] < least[1]
        came.append((starts[0], np.where(last, starts[2], starts[1]), last))
        plain, used = least[0], np.where(last, least[2], least[1])
    end, before, levels = len(ends) - 1, True, [0.0]
    for from_plain, from_used, last in reversed(came):
        around_zero = before and bool(last[end])
        start = int((from_used if before else from_plain)[end])
        before = before and not around_zero
        if not around_zero:
            levels += _mean(bins, start, end)
        end = start
    if not before:
        levels += _mean(bins, 0, end)
    return np.unique(levels)


def _mean(bins: Bins, start: int, end: int) -> list[float]:
    count = bins.count[end] - bins.count[start]
    return [float((bins.first[end] - bins.first[start]) / count)] if count > 0 else []


def lloyd(levels: np.ndarray, values: np.ndarray, weights: np.ndarray, steps: int = _LLOYD_STEPS) -> np.ndarray:
    """Levels moved to the means of what is nearest to them, again and again; 0 stays, and so does a level that nothing is nearest to."""
    zero = levels == 0
    total, first = np.append(0.0, np.cumsum(weights)), np.append(0.0, np.cumsum(weights * values))
    for _ in range(steps):
        inner = np.searchsorted(values, (levels[1:] + levels[:-1]) / 2)
        bounds = np.concatenate([[0], inner, [len(values)]])
        counts = np.diff(total[bounds])
        means = np.divide(np.diff(first[bounds]), counts, out=levels.copy(), where=counts > 0)
        moved = np.where(zero, 0.0, means)
        if np.array_equal(moved, levels):
            break
        levels = moved
    return np.unique(levels)
