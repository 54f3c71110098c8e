"""The scale of a layer's weight under the freedom that the layer was granted.

    float, fixed_point   min-max; with mse, the best of 40 parts of it, from 1 down to 0.35
    shift                the effective multiplier s_x * s_w / s_y is 2^-k, 1 <= k <= 30:   s_w = unit * 2^-k,   unit = s_y / s_x
    accumulate16         the weights are changed to keep a promise (see safe_weights), less the larger the scale

Where there is a choice (the next power up or down, a larger scale) the weights' squared error decides: of each channel, or of all.
"""

from __future__ import annotations

import numpy as np

from tvm_rsq.safe_weights import squared_errors
from tvm_rsq.targets.workload import summed_products
from tvm_rsq.uniform import weight_scale

EXPONENTS = range(1, 31)
# By how many products are summed; relative to min-max. In descending order: the larger the scale, the fewer weights have to be changed,
# and the faster it is tried.
_FACTORS = {0: (1.0,), 2: (1.6, 1.3, 1.0), 4: (2.4, 1.9, 1.5, 1.2, 1.0), 8: (3.2, 2.5, 2.0, 1.6, 1.0)}
_POWERS = {0: (1.0, 0.5), 2: (2.0, 1.0, 0.5), 4: (4.0, 2.0, 1.0, 0.5), 8: (4.0, 2.0, 1.0)}
_CLIPPED = tuple(float(part) for part in np.linspace(1.0, 0.35, 40))
_FEW = 0.02  # channels: the search ends where no more than that still gain, and all have a scale


def fit_scale(
    w: np.ndarray, *, per_channel: bool, bits: int, floor: np.ndarray, unit: float | None = None, accumulate16: int = 0, inner: int = 0,
    mse: bool = False,
) -> np.ndarray | None:  # fmt: skip
    """float32 (O,), or (1,) per tensor; None where no power of two fits.

    w      float32 (O, run), the order of memory
    floor  float32 (O,), the smallest scale of each channel
    unit   s_y / s_x for "shift", None for other arithmetic
    inner  channels that one output reads, which accumulate16 asks for
    mse    whether large weights may be clipped for the sake of the squared error
    """
    axis, summed = 0 if per_channel else None, summed_products(accumulate16)
    floor = floor if per_channel else floor.max(keepdims=True)
    base = weight_scale(w, axis, bits, minimum=floor)
    if unit is None:
        factors = _CLIPPED if mse and not accumulate16 else _FACTORS[summed]
        tried = [base * np.float32(factor) for factor in factors]
    else:
        # The smallest power that clips nothing, larger ones, and the one below it.
        power = np.exp2(np.ceil(np.log2(base.astype(np.float64) / unit)))
        tried = [_within(power * factor, unit) for factor in _POWERS[summed]]
    if len(tried) == 1:
        return tried[0]
    tried = [(scale, (scale >= floor) & (scale > 0)) for scale in tried]
    tried = [(scale, allowed) for scale, allowed in tried if allowed.any()]
    best, least = base, np.full(len(base), np.inf)
    every = squared_errors(w, [np.where(allowed, scale, base) for scale, allowed in tried], bits, accumulate16, inner)
    for (scale, allowed), errors in zip(tried, every, strict=True):
        errors = np.where(allowed, errors if per_channel else errors.sum(keepdims=True), np.inf)
        better = errors < least
        best, least = np.where(better, scale, best), np.where(better, errors, least)
        if not mse and better.mean() < _FEW and np.isfinite(least).all():
            break
    return best.astype(np.float32) if np.isfinite(least).all() else None


def _within(power: np.ndarray, unit: float) -> np.ndarray:
    """float32 unit * power, 0 where the exponent is out of range."""
    usable = (power >= 2.0 ** -(EXPONENTS.stop - 1)) & (power <= 2.0**-EXPONENTS.start)
    return np.where(usable, power * unit, 0.0).astype(np.float32)
