"""Float levels and scales of a layer that stays in float, found together; see levels_and_scales for the search.

    w_ok ~ s_o * level[code_ok]        |level| <= 1, so that a scale is the largest weight that its channel may have
"""

from __future__ import annotations

import numpy as np

from tvm_rsq.codebook.levels_and_scales import LAST_RATIOS, checked, levels_and_scales, rescaled, worth_of
from tvm_rsq.codebook.methods import LevelMethod
from tvm_rsq.codebook.scaled_levels import ScaledLevels
from tvm_rsq.uniform import SCALE_OF_ZEROS

_LARGEST = float(np.finfo(np.float32).max)


def fit_levels(rows: np.ndarray, count: int, method: LevelMethod, *, importance: np.ndarray | None = None) -> ScaledLevels:
    """One set of levels for all output channels, and a scale for each.

    rows        float32 (O, K), a row for each output channel
    count       levels: 2^bits
    importance  as of fit_codebook
    ModelError: NaN or infinity. ConfigError: no weights, or an importance of another shape or below 0.
    """
    weights, worth = checked(rows), worth_of(importance, rows.shape)
    scale, found = levels_and_scales(weights, worth, count, method)
    peak = float(np.abs(found).max()) or 1.0
    levels = np.unique((found / peak).astype(np.float32) + np.float32(0))  # no -0, which a level too small for float32 becomes
    scale = rescaled(weights, worth, levels.astype(np.float64), scale * peak, LAST_RATIOS)
    return ScaledLevels(levels=np.append(levels, np.repeat(levels[-1:], count - len(levels))), scale=_positive(scale, weights))


def _positive(scale: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """float32 (O,): that of a row of zeros, or of less than float32 holds, the largest."""
    made = np.where(weights.any(axis=1), np.minimum(scale, _LARGEST), 0.0).astype(np.float32)
    return np.where(made > 0, made, made.max(initial=0.0) or np.float32(SCALE_OF_ZEROS)).astype(np.float32)
