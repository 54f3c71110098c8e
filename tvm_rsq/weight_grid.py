"""WeightGrid: the values that a layer's weights may take.   real = scale * integer

uniform     integers -(2^(bits-1) - 1) .. 2^(bits-1) - 1
codebook    the 2^bits entries of the book of the weight's output channel, int8
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tvm_rsq.codebook.encode import channels_of, encode
from tvm_rsq.uniform import dequantize_weight, quantize_weight


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class WeightGrid:
    """scale: float32 (O,), or (1,) per tensor; books: int8 (B, 2^bits), book b for output channels b * ceil(O / B) and on, None: uniform"""

    scale: np.ndarray
    bits: int
    books: np.ndarray | None = None

    def integers(self, weight: np.ndarray, axis: int) -> np.ndarray:
        """int8 of the weight's shape: the closest ones.   axis: of output channels"""
        if self.books is None:
            return quantize_weight(weight, self.scale, self._axis(axis), self.bits)
        return from_rows(encode(as_rows(weight, axis), self.scale, self.books), weight.shape, axis)

    def real(self, integers: np.ndarray, axis: int) -> np.ndarray:
        """float32: what the integer network computes with."""
        return dequantize_weight(integers, self.scale, self._axis(axis)).astype(np.float32)

    def levels(self, outputs: int) -> np.ndarray:
        """float32 (O, L), or (1, L) where all output channels have the same: the integers that a weight may be, ascending."""
        if self.books is None:
            most = 2 ** (self.bits - 1) - 1
            return np.arange(-most, most + 1, dtype=np.float32)[None]
        if len(self.books) == 1:
            return self.books.astype(np.float32)
        return np.repeat(self.books, channels_of(self.books, outputs), axis=0)[:outputs].astype(np.float32)

    def _axis(self, axis: int) -> int | None:
        return axis if self.scale.size > 1 else None


def stored_bytes(weights: int, bits: int, books: int = 0) -> int:
    """Of codes of so many weights, two of 4 bits a byte, and of so many codebooks of 2^bits bytes each."""
    return -(-weights * bits // 8) + books * 2**bits


def as_rows(weight: np.ndarray, axis: int) -> np.ndarray:
    """(O, run): one output channel's weights a row, in the order in which kernels read them."""
    rows = weight if axis == 0 else np.moveaxis(weight, axis, 0)
    return np.ascontiguousarray(rows.reshape(rows.shape[0], -1))


def from_rows(rows: np.ndarray, shape: tuple[int, ...], axis: int) -> np.ndarray:
    """What `as_rows` was made of, in its shape."""
    if axis == 0:
        return rows.reshape(shape)
    others = tuple(extent for i, extent in enumerate(shape) if i != axis)
    return np.ascontiguousarray(np.moveaxis(rows.reshape(rows.shape[0], *others), 0, axis))
