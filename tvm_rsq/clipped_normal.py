"""The mean of a normal variable after a relu, relu6 or any other clip.   numpy only, element by element, float64"""

from __future__ import annotations

import numpy as np
from scipy.stats import norm


def clipped_normal_mean(mean: np.ndarray, std: np.ndarray, low: float, high: float) -> np.ndarray:
    """E[min(max(x, low), high)] of x ~ N(mean, std^2); low and high may be infinite, std may be 0.   low <= high

    low P(a) + high (1 - P(b)) + mean (P(b) - P(a)) + std (p(a) - p(b))        a = (low - mean) / std,  b = (high - mean) / std
    with the standard normal's density p and distribution P. For a relu that is mean P(mean / std) + std p(mean / std).
    Nagel et al., ICCV 2019, "Data-Free Quantization Through Weight Equalization and Bias Correction", section 4.2.1 and appendix C.
    """
    mean, std = np.broadcast_arrays(np.asarray(mean, np.float64), np.asarray(std, np.float64))
    varies = std > 0
    spread = np.where(varies, std, 1.0)
    a, b = (low - mean) / spread, (high - mean) / spread
    found = mean * (norm.cdf(b) - norm.cdf(a)) + spread * (norm.pdf(a) - norm.pdf(b))
    if np.isfinite(low):
        found = found + low * norm.cdf(a)
    if np.isfinite(high):
        found = found + high * norm.sf(b)
    return np.where(varies, found, np.clip(mean, low, high))
