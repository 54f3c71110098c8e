"""SQuant on levels with gaps of their own: errors cancel to half a gap, and with gaps of 1 it is squant."""

from __future__ import annotations

import numpy as np
import pytest

from tvm_rsq.errors import ModelError
from tvm_rsq.squant import squant_round
from tvm_rsq.squant_levels import squant_books

BOOK = np.array([[-127, -90, -60, -41, -26, -15, -7, 0, 6, 14, 25, 40, 58, 80, 104, 127]], np.int8)


def rows(shape: tuple[int, int, int], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 40, shape).clip(-120, 120)


def nearest(values: np.ndarray, book: np.ndarray) -> np.ndarray:
    return book[np.abs(values[..., None] - book).argmin(-1)]


def test_with_gaps_of_one_it_is_squant():
    values = np.random.default_rng(1).uniform(-6, 6, (4, 7, 9))
    found = squant_books(values, np.arange(-7, 8, dtype=np.int8)[None])
    np.testing.assert_array_equal(found, squant_round(values, 7))


@pytest.mark.parametrize("shape", [(6, 8, 9), (3, 200, 1), (5, 1, 9), (2, 1, 1)])
def test_sums_cancel_and_weights_are_neighbours(shape):
    values = rows(shape)
    found = squant_books(values, BOOK).astype(float)
    book = BOOK[0].astype(float)
    assert set(np.unique(found)) <= set(book)
    below = book[np.clip(np.searchsorted(book, values, side="right") - 1, 0, len(book) - 2)]
    above = book[np.clip(np.searchsorted(book, values, side="right"), 1, len(book) - 1)]
    assert ((found == below) | (found == above) | (found == nearest(values, book))).all()
    if values[0].size > 1:
        plain = np.abs((nearest(values, book) - values).sum((1, 2)))
        made = np.abs((found - values).sum((1, 2)))
        assert made.mean() <= 0.6 * plain.mean() and made.max() <= np.diff(book).max()


def test_each_channel_has_the_book_of_its_group_and_padding_is_no_entry():
    books = np.stack([BOOK[0], np.array([-50, -20, 0, 20, 50, *[127] * 11], np.int8)])
    found = squant_books(rows((5, 4, 9)), books)
    assert set(np.unique(found[:3])) <= set(BOOK[0].tolist()) and set(np.unique(found[3:])) <= {-50, -20, 0, 20, 50, 127}


def test_nan_is_refused():
    with pytest.raises(ModelError, match="NaN"):
        squant_books(np.full((1, 1, 1), np.nan), BOOK)
