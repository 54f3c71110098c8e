"""The seed paper's levels: weights are clustered, and each cluster is a uniform grid whose number of steps follows from what it holds.

    cluster c: n_c weights over a range r_c, on the middles of s_c equal cells       error  sum_c n_c r_c^2 / (12 s_c^2)
    for a given number of levels that is least where                                 s_c ~ (n_c r_c^2)^(1/3)

k-means would be the wrong way to the clusters: it minimises n r^2 for one level in each, not for s_c of them. So clusters are chosen
together with their steps, by dynamic programming over the error above, for every number of clusters up to eight. What the model leaves out,
that weights are not uniform in a cell, is made good by a fixed point:

    every weight goes to its nearest level; every cluster's grid is the least-squares line through what its levels got

which keeps the grids uniform, but for neighbours that would cross and the level that is moved to 0. The least squared error over the
numbers of clusters wins.
"""

from __future__ import annotations

import numpy as np

from tvm_rsq.codebook.bins import Bins, binned
from tvm_rsq.codebook.levels import check, squared_error, with_zero

_CLUSTERS = 8
_BINS = 64
_STEPS = 30


def clustered_levels(values: np.ndarray, weights: np.ndarray, count: int) -> np.ndarray:
    """As Levels.   ValueError: see levels.check"""
    check(values, count)
    bins = binned(values, weights, _BINS)
    books = []
    for parts in _partitions(bins, count):
        bounds = np.array(parts)
        spans = list(zip(bins.low[bounds[:-1]], bins.high[bounds[1:] - 1], strict=True))
        counts, ranges = np.diff(bins.count[bounds]), np.array([high - low for low, high in spans])
        steps = share_steps(counts, ranges, count)
        grids = [low + (high - low) * (np.arange(s) + 0.5) / s for (low, high), s in zip(spans, steps, strict=True)]
        books.append(with_zero(_settled(grids, values, weights)))
    return min(books, key=lambda book: squared_error(book, values, weights))


def share_steps(counts: np.ndarray, ranges: np.ndarray, levels: int) -> np.ndarray:
    """int64 (C,) of at least 1 each, `levels` in all: those with the least sum(counts * (ranges / steps)^2).   levels >= C

    ~ (counts * ranges^2)^(1/3), rounded down, and the rest one by one to whichever gains most. The sum is convex in each step count, so
    nothing is better.
    """
    spread = counts * np.square(ranges)
    shares = np.cbrt(spread)
    total = shares.sum()
    steps = np.maximum(1, np.floor(levels * shares / total).astype(np.int64)) if total > 0 else np.ones(len(counts), np.int64)

    def gain(of: np.ndarray) -> np.ndarray:
        """Of the last step of each."""
        return np.where(of > 1, spread / np.square(np.maximum(of - 1, 1)) - spread / np.square(of), np.inf)

    while steps.sum() > levels:
        steps[np.argmin(gain(steps))] -= 1
    while steps.sum() < levels:
        steps[np.argmax(gain(steps + 1))] += 1
    # The proportional start may be off by more than the rest that was handed out.
    while gain(steps + 1).max() > gain(steps).min():
        taker, giver = np.argmax(gain(steps + 1)), np.argmin(gain(steps))
        steps[taker] += 1
        steps[giver] -= 1
    return steps


def _partitions(bins: Bins, count: int) -> list[list[int]]:
    """For each number of clusters, the bins at which the best ones begin, and the end."""
    spread = bins.spreads() / 12
    most = min(_CLUSTERS, len(bins), count)
    first = np.stack([spread[0] / max(s, 1) ** 2 for s in range(count + 1)])  # [levels spent, end]
    first[0] = np.inf
    best, found, choices = first, [[0, len(bins)]], []
    ends = np.arange(len(bins) + 1)
    for _ in range(1, most):
        grown = np.full_like(best, np.inf)
        chosen = np.zeros((*best.shape, 2), np.int64)  # (start, steps) of the last cluster
        for spent in range(2, count + 1):
            for steps in range(1, spent):
                total = best[spent - steps][:, None] + spread / steps**2
                start = total.argmin(axis=0)
                value = total[start, ends]
                better = value < grown[spent]
                grown[spent] = np.where(better, value, grown[spent])
                chosen[spent, better] = np.stack([start, np.full_like(start, steps)], axis=-1)[better]
        choices.append(chosen)
        best = grown
        if not np.isfinite(best[count, -1]):
            break
        at, spent, bounds = len(bins), count, [len(bins)]
        for chosen in reversed(choices):
            start, steps = chosen[spent, at]
            at, spent = int(start), spent - int(steps)
            bounds.append(at)
        found.append([0, *reversed(bounds)])
    return found


def _settled(grids: list[np.ndarray], values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The fixed point: ascending levels."""
    owner = np.repeat(np.arange(len(grids)), [len(grid) for grid in grids])
    place = np.concatenate([np.arange(len(grid), dtype=np.float64) for grid in grids])
    levels = np.concatenate(grids)
    total, first = np.append(0.0, np.cumsum(weights)), np.append(0.0, np.cumsum(weights * values))
    for _ in range(_STEPS):
        bounds = np.concatenate([[0], np.searchsorted(values, (levels[1:] + levels[:-1]) / 2), [len(values)]])
        counts, sums = np.diff(total[bounds]), np.diff(first[bounds])
        moved = levels.copy()
        for c in range(len(grids)):
            mine = owner == c
            moved[mine] = _line(place[mine], counts[mine], sums[mine], levels[mine])
        moved = np.maximum.accumulate(moved)  # grids of neighbours may not cross
        if np.array_equal(moved, levels):
            break
        levels = moved
    return levels


def _line(place: np.ndarray, counts: np.ndarray, sums: np.ndarray, before: np.ndarray) -> np.ndarray:
    """The points at `place` of the least-squares line through `counts` values at each, `sums` in all; `before` where nothing is."""
    n = counts.sum()
    if n <= 0:
        return before
    centre, mean = (counts * place).sum() / n, sums.sum() / n
    spread = (counts * np.square(place - centre)).sum()
    slope = ((place - centre) * sums).sum() / spread if spread > 0 else np.diff(before).mean() if len(before) > 1 else 0.0
    return mean + max(slope, 0.0) * (place - centre)
