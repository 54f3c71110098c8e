"""The schemes that are compared: uniform grids, the ways to find levels, and books of fewer channels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from tvm_rsq.codebook.fit_codebook import fit_codebook
from tvm_rsq.codebook.methods import METHODS
from tvm_rsq.uniform import mse_weight_scale, quantize_weight, weight_scale

YARDSTICK = "uniform, clipped"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Fitted:
    """real: float32 (O, K) of the weights as they are stored; stored_bytes: of codes, books, and a float32 scale for each channel"""

    real: np.ndarray
    stored_bytes: int


Scheme = Callable[[np.ndarray, int], Fitted]


def _uniform(find_scale: Callable[..., np.ndarray]) -> Scheme:
    def fit(rows: np.ndarray, bits: int) -> Fitted:
        scale = find_scale(rows, 0, bits)
        return _fitted(quantize_weight(rows, scale, 0, bits), scale, bits, 0)

    return fit


def _codebook(method: str, *, channels: int | None = None, per_channel: bool = True) -> Scheme:
    def fit(rows: np.ndarray, bits: int) -> Fitted:
        found = fit_codebook(rows, 2**bits, METHODS[method], channels=channels, per_channel=per_channel)
        return _fitted(found.integers, found.scale, bits, found.books.size)

    return fit


def _fitted(integers: np.ndarray, scale: np.ndarray, bits: int, books: int) -> Fitted:
    real = (integers * scale[:, None]).astype(np.float32)
    return Fitted(real=real, stored_bytes=-(-integers.size * bits // 8) + books + scale.nbytes)


SCHEMES: Mapping[str, Scheme] = {
    "uniform, min-max": _uniform(weight_scale),
    YARDSTICK: _uniform(mse_weight_scale),
    "powers of two": _codebook("powers"),
    "additive powers of two": _codebook("additive_powers"),
    "clusters with steps": _codebook("clustered"),
    "k-means": _codebook("kmeans"),
    "k-means, one scale": _codebook("kmeans", per_channel=False),
    "k-means, a book for 64 channels": _codebook("kmeans", channels=64),
    "k-means, a book for 16 channels": _codebook("kmeans", channels=16),
}
