"""Integer weights whose products may be summed in int16: the promise of `Conv2DWorkload.accumulate16`, kept by the least change.

A channel's weights in memory order are cut into blocks of 4 * D, and each block into two groups of 2 * D: positions 0, 1 mod 4, and
2, 3 mod 4. In a group the positive weights may sum to 128 at most, and the negative ones to -128 at least. A group that breaks this is
replaced by the nearest one that does not, in the Euclidean norm: the excess is taken off all weights of that sign evenly (those that reach
zero drop out), and what is left is rounded down but for the largest remainders, which fill the sum up to 128.
Nearest to the real weights, not to the rounded ones; where nothing is broken, this is `quantize_weight`.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tvm_rsq.uniform import quantize_weight

MOST = 128  # 255 * 128 < 2^15
_PIECE = 2**20  # weights that are worked on at a time, so that they stay in cache


def fits_blocks(inner: int, accumulate16: int) -> bool:
    """Whether blocks divide the channels that one output reads (IC / groups): otherwise the promise cannot be made."""
    return accumulate16 > 0 and inner % (4 * accumulate16) == 0


def keeps_promise(q: np.ndarray, accumulate16: int) -> bool:
    """q (O, run) integers, run in the order of memory, a multiple of 4 * accumulate16."""
    grouped = _groups(q.astype(np.int32), accumulate16)
    positive, negative = np.maximum(grouped, 0).sum(axis=1), np.minimum(grouped, 0).sum(axis=1)
    return bool(positive.max(initial=0) <= MOST and negative.min(initial=0) >= -MOST)


def quantize_safely(w: np.ndarray, scale: np.ndarray, bits: int, accumulate16: int) -> np.ndarray:
    """int8 (O, run): the integers nearest to w / scale that keep the promise.   w float32 (O, run), scale (O,) or (1,)"""
    made = np.empty(w.shape, np.int8)
    for rows in _pieces(w):
        part_scale = scale if np.size(scale) == 1 else scale[rows]
        made[rows] = _quantize(w[rows], part_scale, bits, accumulate16)
    return made


def squared_errors(w: np.ndarray, scale: np.ndarray, bits: int, accumulate16: int) -> np.ndarray:
    """float64 (O,): sum((w - scale * q)^2) of each channel, q as `quantize_safely` makes it (accumulate16 0: plainly rounded)."""
    errors = np.empty(len(w), np.float64)
    for rows in _pieces(w):
        part_scale = np.broadcast_to(np.asarray(scale if np.size(scale) == 1 else scale[rows], np.float32).reshape(-1), len(w[rows]))
        q = _quantize(w[rows], part_scale, bits, accumulate16)
        error = w[rows] - q.astype(np.float32) * part_scale[:, None]
        errors[rows] = np.einsum("or,or->o", error, error, dtype=np.float64)
    return errors


def _quantize(w: np.ndarray, scale: np.ndarray, bits: int, accumulate16: int) -> np.ndarray:
    q = quantize_weight(w, scale, 0, bits)
    if not accumulate16:
        return q
    levels = 2 ** (bits - 1) - 1
    ratio = _groups(w.astype(np.float32) / np.asarray(scale, np.float32).reshape(-1, 1), accumulate16)
    grouped = _groups(q, accumulate16)
    for sign in (1, -1):
        rows = np.flatnonzero(np.maximum(sign * grouped.astype(np.int16), 0).sum(axis=1) > MOST)
        if len(rows):
            signed = np.clip(sign * ratio[rows], -levels, levels)
            grouped[rows] = np.where(signed > 0, sign * _largest_remainders(_shrunk(np.maximum(signed, 0))), grouped[rows])
    return _ungrouped(grouped, accumulate16).reshape(w.shape)


def _shrunk(v: np.ndarray) -> np.ndarray:
    """The nearest rows with values of at least 0 that sum to MOST at most.   v (n, m), at least 0"""
    descending = -np.sort(-v, axis=1)
    excess = (np.cumsum(descending, axis=1) - MOST) / np.arange(1, v.shape[1] + 1, dtype=np.float32)
    last = (descending > excess).sum(axis=1) - 1  # the values that stay positive are the largest ones
    taken = np.maximum(np.take_along_axis(excess, last[:, None], axis=1), 0)
    return np.maximum(v - taken, 0)


def _largest_remainders(v: np.ndarray) -> np.ndarray:
    """int8: every row rounded so that it sums to MOST; v sums to about MOST, or rounds to more."""
    low = np.floor(v)
    left = MOST - low.sum(axis=1, keepdims=True)
    rank = np.argsort(np.argsort(low - v, axis=1, kind="stable"), axis=1, kind="stable")
    return (low + (rank < left)).astype(np.int8)


def _groups(w: np.ndarray, d: int) -> np.ndarray:
    """(O, run) -> (O * run / 2D, 2D), a copy."""
    return w.reshape(-1, d, 2, 2).transpose(0, 2, 1, 3).reshape(-1, 2 * d)


def _ungrouped(grouped: np.ndarray, d: int) -> np.ndarray:
    return grouped.reshape(-1, 2, d, 2).transpose(0, 2, 1, 3)


def _pieces(w: np.ndarray) -> Iterator[slice]:
    step = max(1, _PIECE // max(1, w.shape[1]))
    return (slice(start, start + step) for start in range(0, len(w), step))
