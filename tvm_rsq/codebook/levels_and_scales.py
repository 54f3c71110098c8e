"""Levels and the scales of output channels, found together by turns; what books on the int8 grid and float ones are made of.

    w_ok ~ s_o * level[code_ok]

Levels are found on weights in units of their channel's scale, then every channel's scale on the levels, and so on:

    levels   least sum_ok h_ok s_o^2 (w_ok / s_o - level)^2, by the method
    scale    of some ratios of the last one, each bettered to the least-squares scale of its own codes, that of the least error

Where the search stops matters: over the layers of MobileNetV2 the squared error at 4 bits is 0.75 of clipped uniform weights with scales by
least squares from the channels' deviations alone, and 0.66 with ratios tried as well.
What a weight's error counts, h, is 1, or the variance of what it is multiplied with: then the error of the layer's output is least,
but for correlations.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from tvm_rsq.codebook.levels import nearest
from tvm_rsq.codebook.methods import LevelMethod
from tvm_rsq.errors import ConfigError, ModelError

LAST_RATIOS = np.geomspace(0.65, 1.5, 13)  # of a scale that the levels are fixed for
_ROUNDS = 3
_RATIOS = np.geomspace(0.7, 1.4, 5)
_FIRST_RATIOS = np.geomspace(0.05, 1.0, 48)  # of a channel's largest weight, for levels that are not found on the weights
_SAMPLE = 2**18  # weights that levels are found on
_COLUMNS = 512  # of each row, that a scale is searched on
_PIECE = 2**18  # weights that are worked on at a time, so that they stay in cache


def levels_and_scales(weights: np.ndarray, worth: np.ndarray, count: int, method: LevelMethod) -> tuple[np.ndarray, np.ndarray]:
    """float64 (O,) scales, 0 for rows of zeros, and the levels in their units."""
    scale = np.sqrt(np.square(weights).mean(axis=1))
    if not weights.any():
        return scale, np.array([-1.0, 0.0, 1.0])
    if method.fixed:
        levels = method.find(*sample(weights, worth, scale), count)
        return rescaled(weights, worth, levels, np.abs(weights).max(axis=1), _FIRST_RATIOS), levels
    best = (np.inf, scale, np.array([-1.0, 0.0, 1.0]))
    for _ in range(_ROUNDS):
        levels = method.find(*sample(weights, worth, scale), count)
        scale = rescaled(weights, worth, levels, scale, _RATIOS)
        error = _error(weights, worth, levels, scale)
        best = min(best, (error, scale, levels), key=lambda each: each[0])
    return best[1], best[2]


def sample(weights: np.ndarray, worth: np.ndarray, scale: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(values, weights) as of Levels."""
    live = np.flatnonzero(scale > 0)
    step = max(1, live.size * weights.shape[1] // _SAMPLE)
    while math.gcd(step, weights.shape[1]) > 1:  # else some columns would be passed over in every row
        step += 1
    row, column = np.divmod(np.arange(0, live.size * weights.shape[1], step), weights.shape[1])
    unit = scale[live[row]]
    values, counts = weights[live[row], column] / unit, worth[live[row], column] * np.square(unit)
    order = np.argsort(values, kind="stable")
    return values[order], counts[order]


def rescaled(weights: np.ndarray, worth: np.ndarray, levels: np.ndarray, scale: np.ndarray, ratios: np.ndarray) -> np.ndarray:
    """float64 (O,): the best scale of each row near `scale`; rows of zeros keep theirs.

    With codes as they are under a ratio, entries e, the best scale is sum h e w / sum h e^2, and what it leaves the rest of
    sum h w^2 - (sum h e w)^2 / sum h e^2.
    """
    columns = max(_COLUMNS, _SAMPLE // len(weights))
    step = -(-weights.shape[1] // columns)
    found = scale.astype(np.float64)
    for rows in _pieces(weights.shape, columns):
        some, count, base = weights[rows, ::step], worth[rows, ::step], found[rows].copy()
        gained = np.zeros(len(base))
        for ratio in ratios:
            product, power = _fit(some, count, levels, base * ratio)
            gain = np.divide(np.square(product), power, out=np.zeros_like(power), where=power > 0)
            better = (gain > gained) & (product > 0) & (base > 0)
            gained = np.where(better, gain, gained)
            found[rows] = np.where(better, product / np.where(power > 0, power, 1.0), found[rows])
    return found if step == 1 else _bettered(weights, worth, levels, found)


def _bettered(weights: np.ndarray, worth: np.ndarray, levels: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """float64 (O,): the least-squares scale of the codes that each row has now, all columns counted."""
    product, power = np.zeros(len(scale)), np.zeros(len(scale))
    for rows, columns in _blocks(weights.shape):
        of = _fit(weights[rows, columns], worth[rows, columns], levels, scale[rows])
        product[rows] += of[0]
        power[rows] += of[1]
    return np.where((product > 0) & (power > 0) & (scale > 0), product / np.where(power > 0, power, 1.0), scale)


def _fit(weights: np.ndarray, worth: np.ndarray, levels: np.ndarray, scale: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(sum h e w, sum h e^2) of each row, float64 (O,) each."""
    entries = levels[nearest(levels, weights / np.where(scale > 0, scale, 1.0)[:, None])]
    return (worth * entries * weights).sum(axis=1), (worth * np.square(entries)).sum(axis=1)


def _error(weights: np.ndarray, worth: np.ndarray, levels: np.ndarray, scale: np.ndarray) -> float:
    """Squared error of all weights, each counted as it is worth."""
    unit, total = np.where(scale > 0, scale, 1.0)[:, None], 0.0
    for rows, columns in _blocks(weights.shape):
        some = weights[rows, columns]
        total += float((worth[rows, columns] * np.square(some - levels[nearest(levels, some / unit[rows])] * unit[rows])).sum())
    return total


def checked(rows: np.ndarray) -> np.ndarray:
    if rows.ndim != 2 or not rows.size:
        raise ConfigError(f"weights of shape {rows.shape}, expected a row of at least one weight for each output channel")
    if not np.isfinite(rows).all():
        raise ModelError("weights contain NaN or infinity; repair the network before quantizing it")
    return rows.astype(np.float64)


def worth_of(importance: np.ndarray | None, shape: tuple[int, ...]) -> np.ndarray:
    if importance is None:
        return np.broadcast_to(np.float64(1), shape)
    found = np.asarray(importance, np.float64)
    if found.shape not in (shape, shape[1:]) or not np.isfinite(found).all() or (found < 0).any() or not found.any():
        raise ConfigError(f"importance of shape {found.shape} for weights of shape {shape}, expected finite ones of at least 0, some above")
    return np.broadcast_to(found, shape)


def _pieces(shape: tuple[int, ...], columns: int) -> Iterator[slice]:
    """Rows, as many as have _PIECE weights in so many columns."""
    step = max(1, _PIECE // min(columns, shape[1]))
    return (slice(start, start + step) for start in range(0, shape[0], step))


def _blocks(shape: tuple[int, ...]) -> Iterator[tuple[slice, slice]]:
    """Rows and columns that cover the weights, _PIECE of them each at most."""
    for rows in _pieces(shape, shape[1]):
        for start in range(0, shape[1], _PIECE):
            yield rows, slice(start, start + _PIECE)
