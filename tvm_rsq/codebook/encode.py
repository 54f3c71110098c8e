"""Weights to the closest entries of given codebooks, and entries to codes."""

from __future__ import annotations

import numpy as np

from tvm_rsq.codebook.levels import nearest
from tvm_rsq.errors import ConfigError

_PIECE = 2**18  # weights that are worked on at a time, so that they stay in cache
_NOWHERE = 255  # more than a book has entries


def channels_of(books: np.ndarray | int, outputs: int) -> int:
    """Output channels that share one of so many books, of `outputs` in all."""
    return -(-outputs // (books if isinstance(books, int) else len(books)))


def encode(rows: np.ndarray, scale: np.ndarray, books: np.ndarray) -> np.ndarray:
    """int8 (O, K): entries of the books, the closest to rows / scale, of two the larger.

    rows   float (O, K);  scale: (O,) or (1,), positive
    books  int8 (B, L), ascending: book b is that of output channels b * ceil(O / B) and on
    """
    each = np.broadcast_to(np.asarray(scale, np.float64).reshape(-1), len(rows))
    size = channels_of(books, len(rows))
    made = np.empty(rows.shape, np.int8)
    step = max(1, _PIECE // max(1, rows.shape[1]))
    for start in range(0, len(rows), size):
        book = books[start // size]
        for first in range(start, min(start + size, len(rows)), step):
            piece = slice(first, min(first + step, start + size))
            made[piece] = book[nearest(book.astype(np.float64), rows[piece].astype(np.float64) / each[piece, None])]
    return made


def codes(integers: np.ndarray, books: np.ndarray) -> np.ndarray:
    """uint8 (O, K): where each integer is in its book, the first place of those that are equal.   ConfigError: one is in none."""
    size = channels_of(books, len(integers))
    found = np.empty(integers.shape, np.uint8)
    for start in range(0, len(integers), size):
        book, some = books[start // size], integers[start : start + size]
        place = np.full(256, _NOWHERE, np.uint8)
        place[book[::-1].view(np.uint8)] = np.arange(len(book))[::-1]
        found[start : start + size] = place[np.ascontiguousarray(some, np.int8).view(np.uint8)]
        if (found[start : start + size] == _NOWHERE).any():
            raise ConfigError(f"weights {some.min()} to {some.max()} are not all in their codebook {book.tolist()}; make the plan again")
    return found
