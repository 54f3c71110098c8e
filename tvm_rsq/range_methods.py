"""How much of what was seen a range should hold: histogram of one tensor -> (low, high).

percentile  from the 0.01 % to the 99.99 % quantile
mse         the part of [min, max] whose grid has the least mean squared error
kl          the part of [min, max] whose grid keeps the most of the distribution: the least KL(clipped || quantized), as TensorRT's
            calibration does for symmetric grids (Migacz, GTC 2017). The bin that holds zero counts as its neighbours do: a relu puts half
            of all values there, exactly on a level, where nothing is lost. Over at most 2048 bins, as there: with finer ones and few
            values it is the noise of the counts that narrow grids keep best.

A part is both ends times one ratio, which keeps the zero point: 64 ratios from 1 to 0.2, the larger of equals.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np

from tvm_rsq.uniform import activation_quant

PERCENTILE = 99.99
_RATIOS = np.linspace(1.0, 0.2, 64)
_SMALLEST = 1e-12
_KL_BINS = 2048

Narrow = Callable[[np.ndarray, float, float, int], tuple[float, float]]


def percentile(counts: np.ndarray, low: float, high: float, _bits: int) -> tuple[float, float]:
    """counts: float64, of equal bins from low to high."""
    edges = np.linspace(low, high, len(counts) + 1)
    cumulative = np.concatenate([[0.0], np.cumsum(counts)]) / counts.sum()
    tail = 1 - PERCENTILE / 100
    # Values at the very end stay there: half of a ReLU's output is its minimum.
    first = max(int(np.searchsorted(cumulative, tail, side="right")) - 1, 0)
    last = min(int(np.searchsorted(cumulative, 1 - tail, side="left")), len(counts))
    return float(edges[first]), float(edges[max(last, first + 1)])


def least_squares(counts: np.ndarray, low: float, high: float, bits: int) -> tuple[float, float]:
    """As `percentile`, for a grid of `bits`."""

    def error(centers: np.ndarray, levels: np.ndarray, values: np.ndarray) -> float:
        return float((counts * np.square(centers - values[levels])).sum())

    return _best(error, len(counts), low, high, bits)


def least_divergence(counts: np.ndarray, low: float, high: float, bits: int) -> tuple[float, float]:
    """As `percentile`, for a grid of `bits`."""
    counts = _without_zeros(_merged(counts), low, high)

    def divergence(centers: np.ndarray, levels: np.ndarray, values: np.ndarray) -> float:
        step = values[1] - values[0]
        inside = np.flatnonzero((centers >= values[0] - step / 2) & (centers <= values[-1] + step / 2))
        if not inside.size:
            return math.inf  # of values far from zero: the part ends before the least of them
        first, last = inside[0], inside[-1]
        clipped = counts[first : last + 1].copy()
        clipped[0] += counts[:first].sum()
        clipped[-1] += counts[last + 1 :].sum()
        # What quantization leaves of the distribution: a level's count, spread over those of its bins that held any.
        own, filled = levels[first : last + 1], counts[first : last + 1] > 0
        totals = np.bincount(own, weights=counts[first : last + 1], minlength=len(values))
        bins = np.bincount(own, weights=filled, minlength=len(values))
        kept = np.where(filled, totals[own] / np.maximum(bins[own], 1), 0.0)
        p, q = clipped / clipped.sum(), kept / max(kept.sum(), _SMALLEST)
        held = p > 0
        return float((p[held] * np.log(p[held] / np.maximum(q[held], _SMALLEST))).sum())

    return _best(divergence, len(counts), low, high, bits)


def _merged(counts: np.ndarray) -> np.ndarray:
    """Of at most _KL_BINS bins, where a whole number of them make one."""
    together, rest = divmod(len(counts), _KL_BINS)
    return counts.reshape(_KL_BINS, together).sum(1) if together > 1 and not rest else counts


def _without_zeros(counts: np.ndarray, low: float, high: float) -> np.ndarray:
    if not low <= 0 <= high:
        return counts
    zero = min(int(-low / (high - low) * len(counts)), len(counts) - 1)
    beside = [counts[i] for i in (zero - 1, zero + 1) if 0 <= i < len(counts)]
    changed = counts.copy()
    changed[zero] = min(counts[zero], float(np.mean(beside)))
    return changed


def _best(
    error: Callable[[np.ndarray, np.ndarray, np.ndarray], float], bins: int, low: float, high: float, bits: int
) -> tuple[float, float]:
    """error: of (centers of the bins, the level that each is rounded to, the values of the levels)."""
    best, least = (low, high), math.inf
    for bounds, centers, levels, values in _grids(bins, low, high, bits):
        found = error(centers, levels, values)
        if found < least:
            best, least = bounds, found
    return best


def _grids(bins: int, low: float, high: float, bits: int) -> Iterator[tuple[tuple[float, float], np.ndarray, np.ndarray, np.ndarray]]:
    edges = np.linspace(low, high, bins + 1)
    centers = (edges[:-1] + edges[1:]) / 2
    for ratio in _RATIOS:
        bounds = low * float(ratio), high * float(ratio)
        quant = activation_quant(*bounds, bits)
        levels = np.clip(np.rint(centers / quant.scale) + quant.zero_point, 0, 2**bits - 1).astype(np.int64)
        yield bounds, centers, levels, quant.scale * (np.arange(2**bits) - quant.zero_point)


NARROW: dict[str, Narrow] = {"percentile": percentile, "mse": least_squares, "kl": least_divergence}
