"""The codebooks of a layer's weight under the freedom that the layer was granted; what fit_scale is to uniform grids.

    float, fixed_point   scales and levels found together, see codebook.fit_codebook
    shift                scales as near to those as powers of two come, s_w = unit * 2^-k with 1 <= k <= 30, and the levels found anew
"""

from __future__ import annotations

import numpy as np

from tvm_rsq.codebook.fit_codebook import fit_codebook, levels_for_scale
from tvm_rsq.codebook.methods import METHODS
from tvm_rsq.fit_scale import EXPONENTS
from tvm_rsq.weight_grid import WeightGrid

METHOD = METHODS["kmeans"]


def fit_codebook_grid(
    rows: np.ndarray, *, per_channel: bool, bits: int, floor: np.ndarray, unit: float | None = None, channels: int | None = None,
    importance: np.ndarray | None = None,
) -> WeightGrid | None:  # fmt: skip
    """None where no power of two fits.

    rows   float32 (O, run), the order of memory
    floor  float32 (O,), the smallest scale of each channel
    unit   s_y / s_x for "shift", None for other arithmetic
    channels, importance  as of fit_codebook
    """
    found = fit_codebook(rows, 2**bits, METHOD, per_channel=per_channel, channels=channels, importance=importance, floor=floor)
    if unit is None:
        return WeightGrid(scale=found.scale, bits=bits, books=found.books)
    least = floor if per_channel else floor.max(keepdims=True)
    power = np.rint(np.log2(found.scale.astype(np.float64) / unit))
    power = np.where(unit * np.exp2(power) < least, power + 1, power)
    if (power < 1 - EXPONENTS.stop).any() or (power > -EXPONENTS.start).any():
        return None
    scale = (unit * np.exp2(power)).astype(np.float32)
    if (scale < least).any():
        return None
    books = levels_for_scale(rows, scale, 2**bits, METHOD, channels=channels, importance=importance)
    return WeightGrid(scale=scale, bits=bits, books=books)
