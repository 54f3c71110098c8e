"""Rounding whose errors cancel: SQuant (Guo et al., ICLR 2022, "On-the-Fly Data-Free Quantization via Diagonal Hessian Approximation").

    error = q - w / scale        kernel  the KH * KW weights of one (output, input) channel pair        channel  all of an output's kernels

Weights start rounded to nearest. A flip takes one to the integer on the other side of w / scale, which changes a sum of errors by one:
    1. in every kernel the fewest flips with which |sum of its errors| <= 1/2
    2. in every channel the fewest flips with which |sum of its errors| <= 1/2, one in a kernel at most
Flipped is what has the largest error of the sum's own sign, so that the squared error grows least. A kernel flipped in step 2 is left with
a sum below 1. The 25 million weights of ResNet-50 take 3 seconds of one core. Weights do not keep the promise of `safe_weights` afterwards.
The paper's ranges are asymmetric per channel, ours are those of `uniform`.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tvm_rsq.errors import ConfigError, ModelError
from tvm_rsq.layer_override import WEIGHT_BITS
from tvm_rsq.squant_levels import squant_books

_PIECE = 2**17  # weights that are worked on at a time, so that they stay in cache


def squant_weight(w: np.ndarray, scale: np.ndarray, axis: int, bits: int, books: np.ndarray | None = None) -> np.ndarray:
    """int8 of w's shape, |q| <= 2^(bits-1) - 1 or entries of the books: the rounding of w / scale whose errors cancel.

    w      float32, a convolution's (O, KH, KW, I / groups) with axis 0, or a dense layer's (I, O) with axis 1
    scale  (O,), or one value for all
    books  codebooks, as of WeightGrid; None: a uniform grid
    ConfigError: another number of bits, another shape or axis, or scales that are not positive. ModelError: w holds NaN or infinity.
    """
    if bits not in WEIGHT_BITS:
        raise ConfigError(f"{bits!r} bits, expected one of {WEIGHT_BITS}")
    if (w.ndim, axis % max(w.ndim, 1)) not in ((4, 0), (2, 1)):
        raise ConfigError(f"weight of shape {w.shape} with axis {axis}, expected (O, KH, KW, I) with axis 0 or (I, O) with axis 1")
    column = np.asarray(scale, np.float32).reshape(-1, 1, 1)
    if len(column) not in (1, w.shape[axis]) or not (column > 0).all():
        raise ConfigError(f"{len(column)} scales for {w.shape[axis]} channels, expected one positive scale for each, or one for all")
    levels = 2 ** (bits - 1) - 1
    if w.ndim == 2:
        return np.ascontiguousarray(_rounded(w.T[:, :, None] / column, levels, books)[:, :, 0].T)
    kernels = np.moveaxis(w, -1, 1)  # (O, I, KH, KW)
    rounded = _rounded(kernels.reshape(*kernels.shape[:2], -1) / column, levels, books)
    return np.ascontiguousarray(np.moveaxis(rounded.reshape(kernels.shape), 1, -1))


def _rounded(rows: np.ndarray, levels: int, books: np.ndarray | None) -> np.ndarray:
    return squant_round(rows, levels) if books is None else squant_books(rows, books)


def squant_round(rows: np.ndarray, levels: int) -> np.ndarray:
    """int8 (O, I, K), |q| <= levels, from weights in units of their scale, float (O, I, K): K weights a kernel, I kernels a channel.

    |q - rows| < 1 where |rows| <= levels, and the sums of errors are as the module says wherever enough weights can be flipped: always,
    unless a range clips, which adds to the sum and hinders flips.
    ConfigError: another rank, or levels outside 1..127. ModelError: rows hold NaN or infinity.
    """
    if rows.ndim != 3 or not 1 <= levels <= 127:
        raise ConfigError(f"weights of shape {rows.shape} for {levels} levels, expected (O, I, K) and 1 to 127 levels")
    if not np.isfinite(rows).all():
        raise ModelError("weights contain NaN or infinity; repair the network before quantizing it")
    made = np.empty(rows.shape, np.int8)
    for piece in _pieces(rows.shape):
        made[piece] = _round(rows[piece].astype(np.float64), levels)
    return made


def _round(rows: np.ndarray, levels: int) -> np.ndarray:
    q = np.clip(np.rint(rows), -levels, levels)
    error = q - rows
    step = np.sign(error)
    if rows.shape[-1] > 1:  # one weight is its own kernel, and half a step off at most
        flips = _fewest(_strength(error, q, error.sum(axis=-1), levels), error.sum(axis=-1))
        q, error, step = q - flips * step, error - flips * step, np.where(flips, -step, step)
    return q - _channel_flips(error, q, levels) * step


def _channel_flips(error: np.ndarray, q: np.ndarray, levels: int) -> np.ndarray:
    """bool (O, I, K): what step 2 flips.   Every kernel offers the weight whose flip brings its own sum nearest to the other side."""
    strength = _strength(error, q, error.sum(axis=-1), levels)
    offered = strength.argmax(axis=-1)[..., None]
    best = np.take_along_axis(strength, offered, axis=-1)[..., 0]
    total = error.sum(axis=(-2, -1))
    same_sign = error.sum(axis=-1) * total[..., None] > 0
    kernels = _fewest(np.where(same_sign, best, -1.0), total)
    flips = np.zeros(error.shape, bool)
    np.put_along_axis(flips, offered, kernels[..., None], axis=-1)
    return flips


def _strength(error: np.ndarray, q: np.ndarray, total: np.ndarray, levels: int) -> np.ndarray:
    """|error| of what may be flipped to make |total| smaller, -1 of all else.   total: one for each row of the last axis"""
    flippable = (error * total[..., None] > 0) & (np.abs(q - np.sign(error)) <= levels)
    return np.where(flippable, np.abs(error), -1.0)


def _fewest(strength: np.ndarray, total: np.ndarray) -> np.ndarray:
    """bool: the strongest of every row, as many as bring |total| to 1/2 or less, or all there are."""
    count = np.ceil(np.abs(total) - 0.5)[..., None]
    order = np.argsort(-strength, axis=-1, kind="stable")
    rank = np.empty(strength.shape, np.int32)
    np.put_along_axis(rank, order, np.arange(strength.shape[-1], dtype=np.int32), axis=-1)
    return (rank < count) & (strength > 0)


def _pieces(shape: tuple[int, ...]) -> Iterator[slice]:
    step = max(1, _PIECE // max(1, shape[1] * shape[2]))
    return (slice(start, start + step) for start in range(0, shape[0], step))
