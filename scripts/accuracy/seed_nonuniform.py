"""Non-uniform weights as the seed paper has them, by its word: a codebook for each layer, uniform inside k-means clusters of its weights.

clusters c of the weights by k-means, n_c weights over a range r_c each; cluster c has s_c levels, the middles of equal cells of r_c / s_c:

    error  sum_c n_c (r_c / s_c)^2 / 12    is least, for a given number of levels, where    s_c ~ (n_c r_c^2)^(1/3)

What tvm_rsq.codebook.clustered makes of the idea, clusters that are chosen for their steps, is a method of its own there.
"""

from __future__ import annotations

import numpy as np

from tvm_rsq.codebook.clustered import share_steps
from tvm_rsq.codebook.levels import nearest, with_zero

CLUSTERS = (1, 2, 3, 4, 6, 8)  # tried; the least squared error wins
_LLOYD_STEPS = 30


def quantize_nonuniform(weight: np.ndarray, bits: int, axis: int | None) -> np.ndarray:
    """Every weight at its nearest level.   float32 of the same shape

    axis  None: one codebook of 2^bits values for the layer; else one for all of its channels along `axis`, in units of each one's largest
    """
    scale = np.ones((1,) * weight.ndim)
    if axis is not None:
        largest = np.abs(weight).max(axis=tuple(i for i in range(weight.ndim) if i != axis % weight.ndim), keepdims=True)
        scale = np.where(largest > 0, largest, 1.0).astype(np.float64)
    values = weight.astype(np.float64) / scale
    return (_closest(codebook(values.reshape(-1), 2**bits), values) * scale).astype(np.float32)


def codebook(values: np.ndarray, levels: int) -> np.ndarray:
    """At most `levels` values, ascending, zero among them.   values: float64 (n,); ValueError: none, or fewer than 2 levels"""
    if not values.size or levels < 2:
        raise ValueError(f"{values.size} weights on {levels} levels, expected at least 1 and 2")
    ordered = np.sort(values)
    books = [_levels(clusters(ordered, count), levels) for count in CLUSTERS if count <= levels]
    return min(books, key=lambda book: np.square(ordered - _closest(book, ordered)).sum())


def _closest(book: np.ndarray, values: np.ndarray) -> np.ndarray:
    return book[nearest(book, values)]


def clusters(ordered: np.ndarray, count: int) -> list[np.ndarray]:
    """k-means on ascending values, begun at their quantiles: at most `count` slices of them, none empty."""
    centres = np.quantile(ordered, (np.arange(count) + 0.5) / count)
    bounds = np.empty(0, np.int64)
    for _ in range(_LLOYD_STEPS):
        found = np.searchsorted(ordered, (centres[1:] + centres[:-1]) / 2)
        if np.array_equal(found, bounds):
            break
        bounds = found
        parts = [part for part in np.split(ordered, bounds) if part.size]
        centres = np.array([part.mean() for part in parts])
    return [part for part in np.split(ordered, np.searchsorted(ordered, (centres[1:] + centres[:-1]) / 2)) if part.size]


def _levels(parts: list[np.ndarray], levels: int) -> np.ndarray:
    counts, ranges = np.array([part.size for part in parts]), np.array([part[-1] - part[0] for part in parts])
    grids = [
        part[0] + extent * (np.arange(cells) + 0.5) / cells
        for part, extent, cells in zip(parts, ranges, share_steps(counts, ranges, levels), strict=True)
    ]
    return with_zero(np.concatenate(grids))
