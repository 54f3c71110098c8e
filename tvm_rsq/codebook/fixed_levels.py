"""Levels whose shape is given, whatever the weights: the yardsticks. Only the scale is fitted.

uniform          -m .. m                     m = count / 2 - 1
powers           0, +-2^0, +-2^-1, ...       Miyashita et al., 2016: a product is a shift
additive powers  0, +-(p_0 + ... + p_(n-1))  Li et al., "APoT" (ICLR 2020): a product is n shifts and a sum

    b - 1 bits of magnitude are n = ceil((b - 1) / 2) terms of two bits, the last of one bit where they do not divide;
    term i takes its values from {0} and 2^-(i + j n), j = 0, 1, ...
"""

from __future__ import annotations

import itertools

import numpy as np

from tvm_rsq.codebook.levels import check


def uniform_levels(values: np.ndarray, _weights: np.ndarray, count: int) -> np.ndarray:
    """As Levels."""
    check(values, count)
    return _both_signs(np.arange(1, count // 2))


def power_levels(values: np.ndarray, _weights: np.ndarray, count: int) -> np.ndarray:
    """As Levels; those below 1/128 of the largest, which the int8 grid has not, are left out."""
    check(values, count)
    return _both_signs(2.0 ** -np.arange(min(count // 2 - 1, 8)))


def additive_power_levels(values: np.ndarray, _weights: np.ndarray, count: int) -> np.ndarray:
    """As Levels."""
    check(values, count)
    bits = (count // 2).bit_length() - 1
    terms = -(-bits // 2)
    sizes = [2] * (bits // 2) + [1] * (bits % 2)
    choices = [[0.0, *(2.0 ** -(i + j * terms) for j in range(2**size - 1))] for i, size in enumerate(sizes)]
    sums = {sum(chosen) for chosen in itertools.product(*choices)}
    return _both_signs(np.array(sorted(sums - {0.0})))


def _both_signs(magnitudes: np.ndarray) -> np.ndarray:
    magnitudes = np.sort(np.asarray(magnitudes, np.float64))
    return np.concatenate([-magnitudes[::-1], [0.0], magnitudes]) / magnitudes[-1]
