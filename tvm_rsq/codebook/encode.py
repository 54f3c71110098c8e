"""Weights to the closest entries of given codebooks, and entries to codes."""

from __future__ import annotations

import numpy as np

from tvm_rsq.codebook.levels import nearest
from tvm_rsq.errors import ConfigError


def channels_of(books: np.ndarray, outputs: int) -> int:
    """Output channels that share a book, of `outputs` in all."""
    return -(-outputs // len(books))


def encode(rows: np.ndarray, scale: np.ndarray, books: np.ndarray) -> np.ndarray:
    """int8 (O, K): entries of the books, the closest to rows / scale, of two the larger.

    rows   float (O, K);  scale: (O,) or (1,), positive
    books  int8 (B, L), ascending: book b is that of output channels b * ceil(O / B) and on
    """
    each = np.broadcast_to(np.asarray(scale, np.float64).reshape(-1), len(rows))
    size = channels_of(books, len(rows))
    made = np.empty(rows.shape, np.int8)
    for start in range(0, len(rows), size):
        book = books[start // size]
        span = slice(start, start + size)
        made[span] = book[nearest(book.astype(np.float64), rows[span].astype(np.float64) / each[span, None])]
    return made


def codes(integers: np.ndarray, books: np.ndarray) -> np.ndarray:
    """uint8 (O, K): where each integer is in its book, the first place of those that are equal.   ConfigError: one is in none."""
    size = channels_of(books, len(integers))
    found = np.empty(integers.shape, np.uint8)
    for start in range(0, len(integers), size):
        book, some = books[start // size], integers[start : start + size]
        found[start : start + size] = np.minimum(np.searchsorted(book, some), len(book) - 1)
        if not np.array_equal(book[found[start : start + size]], some):
            raise ConfigError(f"weights {some.min()} to {some.max()} are not all in their codebook {book.tolist()}; make the plan again")
    return found
