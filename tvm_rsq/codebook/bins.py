"""A million values as a few hundred bins: what a search over boundaries between values needs of them.

Boundaries are half of them quantiles, where most values are, and half evenly spaced, where the tails are. Where there are no more values
than bins, every value has its own, and a search over the bins is one over all boundaries.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True, eq=False)
class Bins:
    """Cumulative sums over sorted values, at the bins' boundaries.   float64 (bins + 1,) each, the first 0

    count, first, second   of weights, weights * values, weights * values^2
    low, high              smallest and largest value of every bin, (bins,)
    """

    count: np.ndarray
    first: np.ndarray
    second: np.ndarray
    low: np.ndarray
    high: np.ndarray

    def __len__(self) -> int:
        return len(self.low)

    def variations(self) -> np.ndarray:
        """(bins + 1, bins + 1): squared error of bins i .. j - 1 around their mean; 0 for j = i, infinite for j < i."""
        count, first, second = (sums[None, :] - sums[:, None] for sums in (self.count, self.first, self.second))
        mean = np.divide(first, count, out=np.zeros_like(first), where=count > 0)
        return np.where(_later(len(self), 0), np.maximum(second - mean * first, 0.0), np.inf)

    def moments(self) -> np.ndarray:
        """(bins + 1, bins + 1): squared error of bins i .. j - 1 around 0; 0 for j = i, infinite for j < i."""
        return np.where(_later(len(self), 0), self.second[None, :] - self.second[:, None], np.inf)

    def spreads(self) -> np.ndarray:
        """(bins + 1, bins + 1): count * range^2 of bins i .. j - 1; infinite for j <= i."""
        count = self.count[None, :] - self.count[:, None]
        extent = np.zeros_like(count)
        extent[:-1, 1:] = self.high[None, :] - self.low[:, None]
        return np.where(_later(len(self), 1), count * np.square(extent), np.inf)


def binned(values: np.ndarray, weights: np.ndarray, most: int) -> Bins:
    """values, weights: as of Levels"""
    starts = np.arange(len(values)) if len(values) <= most else _starts(values, most)
    ends = np.append(starts[1:], len(values))
    sums = [np.append(0.0, np.cumsum(weights * power)[ends - 1]) for power in (1.0, values, np.square(values))]
    return Bins(sums[0], sums[1], sums[2], values[starts], values[ends - 1])


def _starts(values: np.ndarray, most: int) -> np.ndarray:
    half = np.linspace(0, 1, most // 2 + 1)[1:-1]
    edges = np.concatenate([np.quantile(values, half), values[0] + half * (values[-1] - values[0])])
    found = np.unique(np.append(0, np.searchsorted(values, edges)))
    return found[found < len(values)]


def _later(bins: int, by: int) -> np.ndarray:
    """Where j >= i + by."""
    return np.triu(np.ones((bins + 1, bins + 1), bool), by)
