"""The constants of a layer's requantization, as the workload's Epilogue defines them: multipliers, folded bias, and whether it is bounded.

    effective multiplier   m = s_x s_w / s_y   (s_x s_w where the result leaves in float), one per channel or one for all
"""

from __future__ import annotations

import numpy as np

from tvm_rsq.targets.workload import RequantizeArithmetic

_EXPONENTS = (1, 30)
BOUNDED, SHORT = 21, 15  # bits of |q| that Epilogue.bounded and Epilogue.short promise


def multiplier(effective: np.ndarray, arithmetic: RequantizeArithmetic) -> np.ndarray:
    """The kernel's argument: float32 (n,); int32 (n,) for "shift"; int32 (2, n) for "fixed_point".   effective float64 (n,)"""
    if arithmetic == "shift":
        return shift_exponents(effective)
    return fixed_point(effective) if arithmetic == "fixed_point" else effective.astype(np.float32)


def shift_exponents(effective: np.ndarray) -> np.ndarray:
    """int32 (n,) k with effective = 2^-k.   ValueError: it is not, or k lies outside 1..30."""
    exact = -np.log2(effective)
    k = np.rint(exact)
    # The three scales are float32, so that their ratio is a power of two up to their roundings.
    if not (np.abs(exact - k).max() < 1e-6 and k.min() >= _EXPONENTS[0] and k.max() <= _EXPONENTS[1]):
        raise ValueError(
            f'requantize is "shift", but the effective multipliers are not powers of two from 2^-30 to 2^-1: exponents {exact.min():.6f} '
            f"to {exact.max():.6f}; make the plan again"
        )
    return k.astype(np.int32)


def fixed_point(effective: np.ndarray) -> np.ndarray:
    """int32 (2, n): (y, s) with effective = y * 2^-s up to 2^-31 of itself, 2^30 <= y < 2^31, 1 <= s <= 62.

    Multipliers below 2^-32 turn every accumulator into 0, whichever way they are written. ValueError: a multiplier of 2^30 and more.
    """
    fraction, exponent = np.frexp(np.asarray(effective, np.float64))
    y, s = np.rint(fraction * 2.0**31), 31 - exponent.astype(np.int64)
    y, s = np.where(y == 2.0**31, 2.0**30, y), np.where(y == 2.0**31, s - 1, s)
    y, s = np.where(s > 62, 2.0**30, y), np.minimum(s, 62)
    if s.min(initial=62) < 1:
        raise ValueError(f"an effective multiplier is {effective.max()}, expected less than 2^30; leave the layer in float")
    return np.stack([y, s]).astype(np.int32)


def folded_bias(
    bias: np.ndarray | None, ohwi: np.ndarray, input_zero_point: int, exponents: np.ndarray | None = None, offset: int = 0
) -> np.ndarray:
    """int32 (O,): bias - z_x sum q_w;   exponents, of a shift: + 2^(k-1) + offset * 2^k

    input_zero_point  z_x, of what is stored; offset  zero_point - residual_zero_point
    """
    total = (0 if bias is None else bias.astype(np.int64)) - input_zero_point * ohwi.reshape(ohwi.shape[0], -1).sum(axis=1, dtype=np.int64)
    if exponents is not None:
        k = exponents.astype(np.int64)
        total = total + (np.int64(1) << (k - 1)) + offset * (np.int64(1) << k)
    # Modulo 2^32, as the kernels add: the planner sees to it that the final sum fits (uniform.accumulator_scale_floor), and only
    # that counts.
    return (total & 0xFFFFFFFF).astype(np.uint32).view(np.int32)


def largest_total(bias: np.ndarray | None, ohwi: np.ndarray, zero_point: int, qmax: int) -> np.ndarray:
    """int64 (O,): max over all inputs of |sum (q_x - z_x) q_w + bias|, 0 <= q_x <= qmax."""
    w = ohwi.reshape(ohwi.shape[0], -1)
    positive, negative = (np.maximum(sign * w, 0).sum(axis=1, dtype=np.int64) for sign in (np.int16(1), np.int16(-1)))
    value = 0 if bias is None else bias.astype(np.int64)
    highest = positive * (qmax - zero_point) + negative * zero_point + value
    lowest = -positive * zero_point - negative * (qmax - zero_point) + value
    return np.maximum(np.abs(highest), np.abs(lowest))


def is_bounded(largest: np.ndarray, effective: np.ndarray, others: float, bits: int) -> bool:
    """Whether |q| < 2^bits before the clip.   largest: see `largest_total`; others: the most that zero points and a residual add to |q|"""
    return bool((largest * effective * (1 + 2.0**-20) + others + 1 < 2.0**bits).all())
