"""SQuant's rounding on the levels of a codebook, whose gaps differ; see squant for the method.

A flip takes a weight to the next level on the other side of its real value, and changes the sum of errors by the gap between the two. Per
unit of that, the squared error grows by gap - 2 |error|: flips are taken in this order, while the sum is beyond half of the next gap. With
gaps of 1 that is what squant does.
"""

from __future__ import annotations

import numpy as np

from tvm_rsq.codebook.encode import channels_of
from tvm_rsq.codebook.levels import nearest
from tvm_rsq.errors import ModelError

_PIECE = 2**17  # weights that are worked on at a time, so that they stay in cache


def squant_books(rows: np.ndarray, books: np.ndarray) -> np.ndarray:
    """int8 (O, I, K), entries of the books, from weights in units of their scale.

    rows   float (O, I, K): K weights a kernel, I kernels a channel
    books  int8 (B, L), as of WeightGrid
    ModelError: rows hold NaN or infinity.
    """
    if not np.isfinite(rows).all():
        raise ModelError("weights contain NaN or infinity; repair the network before quantizing it")
    size = channels_of(books, len(rows))
    step = max(1, _PIECE // max(1, rows[0].size))
    made = np.empty(rows.shape, np.int8)
    for start in range(0, len(rows), size):
        book = np.unique(books[start // size])
        for first in range(start, min(start + size, len(rows)), step):
            piece = slice(first, min(first + step, start + size))
            made[piece] = book[_levels(rows[piece].astype(np.float64), book.astype(np.float64))]
    return made


def _levels(rows: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """int64 (O, I, K): indices of levels."""
    at = nearest(levels, rows)
    if rows.shape[-1] > 1:
        at = _flipped(at, rows, levels, np.ones(rows.shape, bool), (levels[at] - rows).sum(axis=-1))
    # Each kernel offers one weight, and only those whose own sum has the sign of the channel's.
    error = levels[at] - rows
    total, kernels = error.sum(axis=(-2, -1)), error.sum(axis=-1)
    *_, cost = _flips(at, rows, levels, kernels)
    offered = np.zeros(rows.shape, bool)
    np.put_along_axis(offered, cost.argmin(axis=-1)[..., None], True, axis=-1)
    offered &= np.isfinite(cost) & (kernels * total[:, None] > 0)[..., None]
    shape = (len(rows), -1)
    flat = _flipped(at.reshape(shape), rows.reshape(shape), levels, offered.reshape(shape), total)
    return flat.reshape(rows.shape)


def _flipped(at: np.ndarray, rows: np.ndarray, levels: np.ndarray, allowed: np.ndarray, total: np.ndarray) -> np.ndarray:
    """The indices after the flips along the last axis that bring each of `total` nearest to 0."""
    other, gap, cost = _flips(at, rows, levels, total)
    cost = np.where(allowed, cost, np.inf)
    order = np.argsort(cost, axis=-1, kind="stable")
    gaps = np.where(np.isfinite(np.take_along_axis(cost, order, -1)), np.take_along_axis(gap, order, -1), np.inf)
    spent = np.cumsum(np.where(np.isfinite(gaps), gaps, 0.0), axis=-1) - np.where(np.isfinite(gaps), gaps, 0.0)
    taken = np.logical_and.accumulate(np.abs(total)[..., None] - spent > gaps / 2, axis=-1)
    flips = np.zeros(at.shape, bool)
    np.put_along_axis(flips, order, taken, axis=-1)
    return np.where(flips, other, at)


def _flips(at: np.ndarray, rows: np.ndarray, levels: np.ndarray, total: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of every weight, flipped to make |total| smaller: its index then, by how much, and what that costs; infinite where it cannot be."""
    error = levels[at] - rows
    other = at - np.sign(error).astype(np.int64)
    possible = (error * total[..., None] > 0) & (other >= 0) & (other < len(levels))
    other = np.where(possible, other, at)
    gap = np.abs(levels[other] - levels[at])
    return other, gap, np.where(possible, gap - 2 * np.abs(error), np.inf)
