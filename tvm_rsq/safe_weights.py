"""Integer weights whose products may be summed in int16: the promise of `Conv2DWorkload.accumulate16`, kept by the least change.

A channel's weights in memory order are cut into blocks of 4 * D, and each block into two groups of 2 * D: positions 0, 1 mod 4, and
2, 3 mod 4. In a group the positive weights may sum to 128 at most, and the negative ones to -128 at least. A group that breaks this is
replaced by the nearest one that does not, in the Euclidean norm: the excess is taken off all weights of that sign evenly (those that reach
zero drop out), and what is left is rounded down but for the largest remainders, which fill the sum up to 128.
Nearest to the real weights, not to the rounded ones (to those beyond the grid, nearly); where nothing is broken, this is `quantize_weight`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

MOST = 128  # 255 * 128 < 2^15
_PIECE = 2**18  # weights that are worked on at a time, so that they stay in cache


def fits_blocks(inner: int, accumulate16: int) -> bool:
    """Whether blocks divide the channels that one output reads (IC / groups): otherwise the promise cannot be made."""
    return accumulate16 > 0 and inner % (4 * accumulate16) == 0


def keeps_promise(q: np.ndarray, accumulate16: int) -> bool:
    """q (O, run) integers, run in the order of memory, a multiple of 4 * accumulate16."""
    grouped = _groups(q.astype(np.int32), accumulate16)
    positive, negative = np.maximum(grouped, 0).sum(axis=0), np.minimum(grouped, 0).sum(axis=0)
    return bool(positive.max(initial=0) <= MOST and negative.min(initial=0) >= -MOST)


def quantize_safely(w: np.ndarray, scale: np.ndarray, bits: int, accumulate16: int) -> np.ndarray:
    """int8 (O, run): the integers nearest to w / scale that keep the promise.   w float32 (O, run), scale (O,) or (1,)"""
    made = np.empty(w.shape, np.int8)
    for rows in _pieces(w):
        grouped = _round(_groups(w[rows] / _column(scale, rows), accumulate16), bits)
        made[rows] = _ungrouped(grouped, accumulate16, w[rows].shape)
    return made


def squared_errors(w: np.ndarray, scales: Sequence[np.ndarray], bits: int, accumulate16: int) -> Iterator[np.ndarray]:
    """For each of `scales`, float64 (O,): sum((w - scale * q)^2) of each channel, q as `quantize_safely` makes it (or, with accumulate16
    0, plainly rounded). Lazily, one scale after the other.
    """
    pieces = [(rows, _groups(w[rows], accumulate16) if accumulate16 else w[rows].reshape(1, -1)) for rows in _pieces(w)]
    for scale in scales:
        errors = np.empty(len(w), np.float64)
        for rows, grouped in pieces:
            column = _column(scale, rows)
            count = len(w[rows])
            ratio = (grouped.reshape(len(grouped), count, -1) / column).reshape(len(grouped), -1)
            q = _round(ratio, bits) if accumulate16 else _plainly(ratio, bits)
            error = (ratio - q).reshape(len(grouped), count, -1)
            errors[rows] = np.einsum("gor,gor->o", error, error) * np.square(column.reshape(-1).astype(np.float64))
        yield errors


def _column(scale: np.ndarray, rows: slice) -> np.ndarray:
    """float32 (rows, 1), or (1, 1) of a scale for all."""
    scale = np.asarray(scale, np.float32).reshape(-1, 1)
    return scale if len(scale) == 1 else scale[rows]


def _plainly(ratio: np.ndarray, bits: int) -> np.ndarray:
    levels = 2 ** (bits - 1) - 1
    return np.clip(np.rint(ratio), -levels, levels)


def _round(ratio: np.ndarray, bits: int) -> np.ndarray:
    """float32 integers that keep the promise, one group a column."""
    q = _plainly(ratio, bits)
    for sign in (1, -1):
        broken = np.flatnonzero(np.maximum(sign * q, 0).sum(axis=0) > MOST)
        if len(broken):
            signed = sign * ratio[:, broken]
            nearest = _largest_remainders(np.minimum(_shrunk(np.maximum(signed, 0)), 2 ** (bits - 1) - 1), bits)
            q[:, broken] = np.where(signed > 0, sign * nearest, q[:, broken])
    return q


def _shrunk(v: np.ndarray) -> np.ndarray:
    """The nearest columns with values of at least 0 that sum to MOST at most.   v (m, n), at least 0"""
    descending = -np.sort(-v, axis=0)
    excess = (np.cumsum(descending, axis=0) - MOST) / np.arange(1, len(v) + 1, dtype=np.float32)[:, None]
    last = (descending > excess).sum(axis=0) - 1  # the values that stay positive are the largest ones
    taken = np.maximum(np.take_along_axis(excess, last[None], axis=0), 0)
    return np.maximum(v - taken, 0)


def _largest_remainders(v: np.ndarray, bits: int) -> np.ndarray:
    """Every column rounded so that it sums to what it did, or the next integer, MOST at most."""
    low = np.floor(v)
    total = np.minimum(np.ceil(v.sum(axis=0) - 1e-3), MOST)  # less the error of float32 sums
    rank = np.argsort(np.argsort(low - v, axis=0, kind="stable"), axis=0, kind="stable")
    return np.minimum(low + (rank < total - low.sum(axis=0)), 2 ** (bits - 1) - 1)


def _groups(w: np.ndarray, d: int) -> np.ndarray:
    """(O, run) -> (2D, O * run / 2D), a group a column: sums over a leading axis are quick."""
    return np.ascontiguousarray(w.reshape(-1, d, 2, 2).transpose(1, 3, 0, 2)).reshape(2 * d, -1)


def _ungrouped(grouped: np.ndarray, d: int, shape: tuple[int, ...]) -> np.ndarray:
    return grouped.reshape(d, 2, -1, 2).transpose(2, 0, 3, 1).reshape(shape)


def _pieces(w: np.ndarray) -> list[slice]:
    step = max(1, _PIECE // max(1, w.shape[1]))
    return [slice(start, start + step) for start in range(0, len(w), step)]
