"""A layer's codebooks on the int8 grid and its scales, found together; see levels_and_scales for the search.

    w_ok ~ s_o * book[code_ok]        one book for all output channels, or one for each few
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tvm_rsq.codebook.encode import channels_of, encode
from tvm_rsq.codebook.levels_and_scales import LAST_RATIOS, checked, levels_and_scales, rescaled, sample, worth_of
from tvm_rsq.codebook.methods import LevelMethod
from tvm_rsq.uniform import SCALE_OF_ZEROS, SMALLEST_RATIO

GRID = 127


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FittedCodebook:
    """scale: float32 (O,), or (1,) per tensor; books: int8 (B, count), ascending, 0 in each; integers: int8 (O, K), entries of the books"""

    scale: np.ndarray
    books: np.ndarray
    integers: np.ndarray


def fit_codebook(
    rows: np.ndarray, count: int, method: LevelMethod, *, per_channel: bool = True, channels: int | None = None,
    importance: np.ndarray | None = None, floor: np.ndarray | None = None,
) -> FittedCodebook:  # fmt: skip
    """Codebooks of a layer's weights.

    rows        float32 (O, K), a row for each output channel
    count       entries of a book: 2^bits
    per_channel a scale for every output channel, or one for all
    channels    output channels that share a book, at most: as many books as that takes have about as many each; None: all
    importance  what the squared error of a weight counts, at least 0: (K,) or (O, K); None: all the same
    floor       (O,), the smallest scales that are allowed; per tensor its largest
    ModelError: NaN or infinity. ConfigError: no weights, or an importance of another shape or below 0.
    """
    weights, worth = checked(rows), worth_of(importance, rows.shape)
    spans = _spans(len(rows), channels)
    shape = (-1, rows.shape[1]) if per_channel else (1, -1)
    found = [levels_and_scales(weights[span].reshape(shape), worth[span].reshape(shape), count, method) for span in spans]
    if per_channel:
        peaks = [float(np.abs(levels).max()) or 1.0 for _, levels in found]
        books = np.stack([_on_grid(levels / peak, count) for (_, levels), peak in zip(found, peaks, strict=True)])
        scale = np.concatenate([of * peak / GRID for (of, _), peak in zip(found, peaks, strict=True)])
        for span, book in zip(spans, books, strict=True):
            scale[span] = rescaled(weights[span], worth[span], book.astype(np.float64), scale[span], LAST_RATIOS)
    else:
        peak = max(float(of[0] * np.abs(levels).max()) for of, levels in found) or 1.0
        books = np.stack([_on_grid(of[0] * levels / peak, count) for of, levels in found])
        scale = np.full(len(rows), peak / GRID if weights.any() else 0.0)
    scale = _allowed(scale, weights, floor, per_channel)
    made = scale if per_channel else scale[:1]
    return FittedCodebook(scale=made, books=books, integers=encode(rows, made, books))


def levels_for_scale(
    rows: np.ndarray, scale: np.ndarray, count: int, method: LevelMethod, *, channels: int | None = None,
    importance: np.ndarray | None = None,
) -> np.ndarray:  # fmt: skip
    """int8 (B, count): books for scales that are given.   scale: (O,) or (1,), positive; the rest as of fit_codebook"""
    weights, worth = checked(rows), worth_of(importance, rows.shape)
    unit = np.broadcast_to(np.asarray(scale, np.float64), len(rows))
    books = []
    for span in _spans(len(rows), channels):
        levels = method.find(*sample(weights[span], worth[span], unit[span]), count) if weights[span].any() else np.zeros(1)
        books.append(_on_grid(np.clip(levels if method.fixed else levels / GRID, -1.0, 1.0), count))
    return np.stack(books)


def _spans(outputs: int, channels: int | None) -> list[slice]:
    """Of the output channels that share a book: as many as `encode` finds for so many books."""
    size = channels_of(-(-outputs // (channels or outputs)), outputs)
    return [slice(start, start + size) for start in range(0, outputs, size)]


def _on_grid(levels: np.ndarray, count: int) -> np.ndarray:
    """int8 (count,): levels of at most 1 on the int8 grid, the last one again where there are less."""
    found = np.unique(np.rint(levels * GRID).astype(np.int8))
    return np.append(found, np.repeat(found[-1:], count - len(found)))


def _allowed(scale: np.ndarray, weights: np.ndarray, floor: np.ndarray | None, per_channel: bool) -> np.ndarray:
    """float32 (O,): no smaller than the floor and than a part of the largest; that of a row of zeros the largest."""
    least = np.zeros(len(scale)) if floor is None else np.asarray(floor, np.float64)
    if not per_channel:
        least = np.full(len(scale), least.max())
    largest = float(scale.max(initial=0.0)) or SCALE_OF_ZEROS
    found = np.where(weights.any(axis=1) & (scale > 0), scale, largest)
    return np.maximum(np.maximum(found, largest * SMALLEST_RATIO), least).astype(np.float32)
