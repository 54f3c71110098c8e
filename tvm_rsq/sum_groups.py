"""Which weights of a channel are multiplied into one int16: the groups whose sums `accumulate16` bounds.

    1, 2, 4    pmaddubsw: blocks of 4 * D values, of which positions 0, 1 mod 4 meet, and positions 2, 3 mod 4      2 * D products
    32, 64     smlal: blocks of so many values, of which every eighth meets                                        block / 8 products
               depthwise: so many taps, one after the other

Rows are a channel's weights in the order of memory; the last block of NEON's may be short, its values being followed by zeros.
"""

from __future__ import annotations

import numpy as np

from tvm_rsq.targets.workload import summed_products

_EIGHTHS = (32, 64)


def fits(inner: int, run: int, accumulate16: int) -> bool:
    """Whether blocks divide the channels that one output reads (inner, IC / groups) of a row of `run` weights: else nothing is promised."""
    if accumulate16 in _EIGHTHS:
        return run > 1 and (inner in (1, run) or inner % accumulate16 == 0)
    return accumulate16 > 0 and inner % (4 * accumulate16) == 0


def grouped(w: np.ndarray, accumulate16: int, inner: int) -> np.ndarray:
    """(O, run) -> (products, n), a group a column: sums over a leading axis are quick."""
    return np.ascontiguousarray(_blocks(w, accumulate16, inner)).reshape(summed_products(accumulate16), -1)


def ungrouped(groups: np.ndarray, accumulate16: int, inner: int, shape: tuple[int, ...]) -> np.ndarray:
    """The (O, run) that `grouped` made groups of."""
    channels, run = shape
    if accumulate16 not in _EIGHTHS:
        return groups.reshape(accumulate16, 2, -1, 2).transpose(2, 0, 3, 1).reshape(shape)
    count, width = summed_products(accumulate16), 1 if inner == 1 else 8
    rows = groups.reshape(count, channels, -1, width).transpose(1, 2, 0, 3).reshape(channels, -1)
    return rows[:, :run]


def _blocks(w: np.ndarray, accumulate16: int, inner: int) -> np.ndarray:
    if accumulate16 not in _EIGHTHS:
        return w.reshape(-1, accumulate16, 2, 2).transpose(1, 3, 0, 2)
    count, width = summed_products(accumulate16), 1 if inner == 1 else 8
    filled = np.pad(w, [(0, 0), (0, -w.shape[1] % (count * width))])
    return filled.reshape(len(w), -1, count, width).transpose(2, 0, 1, 3)
