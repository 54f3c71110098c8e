"""Codes of weights in bytes: vectors of codes side by side in rows of as many bytes, so that masks and shifts take them apart again.

bits  vectors  rows    byte i of each row holds, the lowest bits first, code i of
4     2        1       0, 1
6     4        3       0 and 2 bits of 3;  1 and 2 bits of 3;  2 and 2 bits of 3
3     8        3       0, 3 and 2 bits of 6;  1, 4 and 1 bit of 6 and of 7;  2, 5 and 2 bits of 7
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar, get_args

import numpy as np
from tvm import tirx
from tvm.ir import Expr

from tvm_rsq.targets.generic.steps import vector
from tvm_rsq.targets.workload import CodeBits

# (vector, its lowest bit that is stored, how many, in which row, from which bit of the byte on)
_FIELDS: dict[int, tuple[tuple[int, int, int, int, int], ...]] = {
    4: ((0, 0, 4, 0, 0), (1, 0, 4, 0, 4)),
    6: (
        (0, 0, 6, 0, 0), (1, 0, 6, 1, 0), (2, 0, 6, 2, 0),
        (3, 0, 2, 0, 6), (3, 2, 2, 1, 6), (3, 4, 2, 2, 6),
    ),
    3: (
        (0, 0, 3, 0, 0), (1, 0, 3, 1, 0), (2, 0, 3, 2, 0), (3, 0, 3, 0, 3), (4, 0, 3, 1, 3), (5, 0, 3, 2, 3),
        (6, 0, 2, 0, 6), (6, 2, 1, 1, 6), (7, 0, 1, 1, 7), (7, 1, 2, 2, 6),
    ),
}  # fmt: skip
CODE_BITS: tuple[CodeBits, ...] = get_args(CodeBits)

Value = TypeVar("Value", np.ndarray, Expr)


@dataclass(frozen=True, slots=True)
class CodeRows:
    """Of `bits` 3, 4 or 6."""

    bits: int

    @property
    def vectors(self) -> int:
        """That are packed together."""
        return 1 + max(field[0] for field in _FIELDS[self.bits])

    @property
    def rows(self) -> int:
        """That they become."""
        return 1 + max(field[3] for field in _FIELDS[self.bits])

    @property
    def entries(self) -> int:
        """Of the table that kernels look codes up in: what registers hold, 16 or 64 bytes."""
        return 16 if self.bits <= 4 else 64

    def pack(self, codes: np.ndarray) -> np.ndarray:
        """uint8 (..., vectors, n) -> uint8 (..., rows, n)."""
        made = np.zeros((*codes.shape[:-2], self.rows, codes.shape[-1]), np.uint8)
        for place, low, count, row, at in _FIELDS[self.bits]:
            made[..., row, :] |= ((codes[..., place, :] >> low) & (2**count - 1)) << at
        return made

    def groups(self, codes: np.ndarray, lanes: int) -> np.ndarray:
        """uint8 of any shape -> (groups, vectors, lanes), in their order, the last group filled up with zeros."""
        missing = -codes.size % (self.vectors * lanes)
        return np.pad(codes.reshape(-1), (0, missing)).reshape(-1, self.vectors, lanes)

    def unpack(self, rows: Sequence[Expr], lanes: int) -> list[Expr]:
        """The vectors of codes of one group's rows; all are uint8 x lanes."""
        dtype = vector("uint8", lanes)

        def const(value: int) -> Expr:
            return tirx.const(value, dtype)

        def field(row: Expr, at: int, count: int) -> Expr:
            part = row >> const(at) if at else row
            return part if at + count == 8 else part & const(2**count - 1)

        return self._joined(rows, field, const)

    def unpack_words(self, rows: Sequence[Expr]) -> list[Expr]:
        """As `unpack`, four lanes side by side in the bytes of a uint32, for machines whose registers have no lanes."""

        def const(value: int) -> Expr:
            return tirx.const(value, "uint32")

        def field(row: Expr, at: int, count: int) -> Expr:
            # What a byte's neighbour shifted into it is masked off, also above its highest field.
            return (row >> const(at) if at else row) & const((2**count - 1) * 0x01010101)

        return self._joined(rows, field, const)

    def _joined(self, rows: Sequence[Expr], field: Callable[[Expr, int, int], Expr], const: Callable[[int], Expr]) -> list[Expr]:
        """The codes of every vector.   field(row, at, count): `count` bits of a row, from bit `at` on, moved to the lowest ones"""
        found: list[Expr | None] = [None] * self.vectors
        for place, low, count, row, at in _FIELDS[self.bits]:
            part = field(rows[row], at, count)
            if low:
                part = part << const(low)
            found[place] = part if found[place] is None else found[place] | part
        return found

    def table(self, book: np.ndarray) -> np.ndarray:
        """int8 (entries,): the book, its last entry again to the end."""
        return np.append(book, np.repeat(book[-1:], self.entries - len(book))).astype(np.int8)
