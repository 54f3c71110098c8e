"""Integer weights whose products may be summed in int16: the promise of `Conv2DWorkload.accumulate16`, kept by the least change.

A channel's weights are cut into groups, those whose products meet in one int16 (sum_groups.py). Where bytes are unsigned, the positive
weights of a group may sum to 128 at most, and the negative ones to -128 at least; where they are signed, all sizes to 255. A group that
breaks this is replaced by the nearest one that does not, in the Euclidean norm: the excess is taken off all weights that are summed evenly
(those that reach zero drop out), and what is left is rounded down but for the largest remainders, which fill the sum up to the most.
Nearest to the real weights, not to the rounded ones (to those beyond the grid, nearly); where nothing is broken, this is `quantize_weight`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from tvm_rsq.sum_groups import grouped, ungrouped
from tvm_rsq.targets.workload import largest_sum, sums_sizes

_PIECE = 2**18  # weights that are worked on at a time, so that they stay in cache


def keeps_promise(q: np.ndarray, accumulate16: int, inner: int = 0) -> bool:
    """q (O, run) integers, run in the order of memory; inner: see sum_groups, it matters where it is 1."""
    groups = grouped(q.astype(np.int32), accumulate16, inner)
    sums, most = _parts(groups, accumulate16), largest_sum(accumulate16)
    return all(part.sum(axis=0).max(initial=0) <= most for part in sums)


def quantize_safely(w: np.ndarray, scale: np.ndarray, bits: int, accumulate16: int, inner: int = 0) -> np.ndarray:
    """int8 (O, run): the integers nearest to w / scale that keep the promise.   w float32 (O, run), scale (O,) or (1,)"""
    made = np.empty(w.shape, np.int8)
    for rows in _pieces(w):
        groups = _round(grouped(w[rows] / _column(scale, rows), accumulate16, inner), bits, accumulate16)
        made[rows] = ungrouped(groups, accumulate16, inner, w[rows].shape)
    return made


def squared_errors(w: np.ndarray, scales: Sequence[np.ndarray], bits: int, accumulate16: int, inner: int = 0) -> Iterator[np.ndarray]:
    """For each of `scales`, float64 (O,): sum((w - scale * q)^2) of each channel, q as `quantize_safely` makes it (or, with accumulate16
    0, plainly rounded). Lazily, one scale after the other.
    """
    pieces = [(rows, grouped(w[rows], accumulate16, inner) if accumulate16 else w[rows].reshape(1, -1)) for rows in _pieces(w)]
    for scale in scales:
        errors = np.empty(len(w), np.float64)
        for rows, groups in pieces:
            column = _column(scale, rows)
            count = len(w[rows])
            ratio = (groups.reshape(len(groups), count, -1) / column).reshape(len(groups), -1)
            q = _round(ratio, bits, accumulate16) if accumulate16 else _plainly(ratio, bits)
            error = (ratio - q).reshape(len(groups), count, -1)
            errors[rows] = np.einsum("gor,gor->o", error, error) * np.square(column.reshape(-1).astype(np.float64))
        yield errors


def _column(scale: np.ndarray, rows: slice) -> np.ndarray:
    """float32 (rows, 1), or (1, 1) of a scale for all."""
    scale = np.asarray(scale, np.float32).reshape(-1, 1)
    return scale if len(scale) == 1 else scale[rows]


def _plainly(ratio: np.ndarray, bits: int) -> np.ndarray:
    levels = 2 ** (bits - 1) - 1
    return np.clip(np.rint(ratio), -levels, levels)


def _round(ratio: np.ndarray, bits: int, accumulate16: int) -> np.ndarray:
    """float32 integers that keep the promise, one group a column."""
    q, most = _plainly(ratio, bits), largest_sum(accumulate16)
    for rounded, real in zip(_parts(q, accumulate16), _parts(ratio, accumulate16), strict=True):
        broken = np.flatnonzero(rounded.sum(axis=0) > most)
        if len(broken):
            size = real[:, broken]
            nearest = _largest_remainders(np.minimum(_shrunk(size, most), 2 ** (bits - 1) - 1), bits, most)
            q[:, broken] = np.where(size > 0, np.sign(ratio[:, broken]) * nearest, q[:, broken])
    return q


def _parts(values: np.ndarray, accumulate16: int) -> tuple[np.ndarray, ...]:
    """The sizes that are summed together: of the positive values and of the negative ones, or of all."""
    return (np.abs(values),) if sums_sizes(accumulate16) else (np.maximum(values, 0), np.maximum(-values, 0))


def _shrunk(v: np.ndarray, most: int) -> np.ndarray:
    """The nearest columns with values of at least 0 that sum to `most` at most.   v (m, n), at least 0"""
    descending = -np.sort(-v, axis=0)
    excess = (np.cumsum(descending, axis=0) - most) / np.arange(1, len(v) + 1, dtype=np.float32)[:, None]
    last = (descending > excess).sum(axis=0) - 1  # the values that stay positive are the largest ones
    taken = np.maximum(np.take_along_axis(excess, last[None], axis=0), 0)
    return np.maximum(v - taken, 0)


def _largest_remainders(v: np.ndarray, bits: int, most: int) -> np.ndarray:
    """Every column rounded so that it sums to what it did, or the next integer, `most` at most."""
    low = np.floor(v)
    total = np.minimum(np.ceil(v.sum(axis=0) - 1e-3), most)  # less the error of float32 sums
    rank = np.argsort(np.argsort(low - v, axis=0, kind="stable"), axis=0, kind="stable")
    return np.minimum(low + (rank < total - low.sum(axis=0)), 2 ** (bits - 1) - 1)


def _pieces(w: np.ndarray) -> list[slice]:
    step = max(1, _PIECE // max(1, w.shape[1]))
    return [slice(start, start + step) for start in range(0, len(w), step)]
