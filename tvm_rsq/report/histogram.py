"""The distribution of a layer's weights beside the values that its grid can hold."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tvm_rsq.report.data import Histogram

BINS = 64  # enough to see a shape at the width of a small multiple, about 250 px


def build(weight: np.ndarray, scale: Sequence[float], bits: int, *, book: Sequence[float] = (), bins: int = BINS) -> Histogram:
    """Histogram of float `weight` (any shape) and the levels k * scale[0], k of the book, or |k| <= 2^(bits-1) - 1 without one.

    scale  one value per output channel or a single one; per channel, the levels are those of the first live channel, since
           the levels of all channels together fill the axis. Empty (a float layer): no levels.
    The edges cover weights and levels, so a clipped weight is seen outside the levels. ValueError: no weights, or not finite.
    """
    values = np.asarray(weight, np.float32).ravel()
    if values.size == 0 or not np.isfinite(values).all():
        raise ValueError(f"weight of shape {np.shape(weight)} is empty or not finite, expected at least one finite value")
    live = [float(s) for s in scale if s > 0]
    levels = (np.unique(book) if len(book) else _uniform(bits)) * live[0] if live else np.zeros(0)
    limit = max(float(np.abs(values).max()), float(np.abs(levels).max(initial=0.0))) or 1.0
    counts, _ = np.histogram(values, bins=bins, range=(-limit, limit))
    edges = np.linspace(-limit, limit, bins + 1)  # as serialise makes them again of the first and the last
    return Histogram(counts=tuple(int(c) for c in counts), edges=tuple(float(e) for e in edges), levels=tuple(float(v) for v in levels))


def _uniform(bits: int) -> np.ndarray:
    top = 2 ** (bits - 1) - 1
    return np.arange(-top, top + 1)
