"""ScaledLevels: what the weights of a layer in float may be, where its file holds codes of them.

    w_ok = scale_o * level[code_ok]        float32, one rounding: what a kernel reads, a simulation computes with, and expanding gives
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tvm_rsq.codebook.levels import nearest


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ScaledLevels:
    """levels: float32 (2^bits,), ascending, 0 among them, the last one again where there are less; scale: float32 (O,), positive"""

    levels: np.ndarray
    scale: np.ndarray

    @property
    def bits(self) -> int:
        return len(self.levels).bit_length() - 1

    def codes(self, rows: np.ndarray) -> np.ndarray:
        """uint8 (O, K) of rows, float32 (O, K): where the closest products are; of weights that are products already, those."""
        found = np.empty(rows.shape, np.uint8)
        levels = np.unique(self.levels)
        for row, scale, made in zip(rows, self.scale, found, strict=True):
            # Among the products themselves, so that a weight that is one already is met exactly.
            made[:] = nearest((scale * levels).astype(np.float64), row.astype(np.float64))
        return found

    def products(self, codes: np.ndarray) -> np.ndarray:
        """float32 (O, K) of codes (O, K)."""
        return self.scale[:, None] * self.levels[codes]
