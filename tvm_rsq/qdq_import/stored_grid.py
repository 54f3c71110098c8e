"""The grid of a layer's weights that the file stores as integers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tvm_rsq.errors import ModelError, UnsupportedError
from tvm_rsq.layer_override import CODEBOOK_BITS
from tvm_rsq.layer_record import fits_grid
from tvm_rsq.qdq_import.source_quantization import StoredWeight
from tvm_rsq.weight_grid import WeightGrid, as_rows

_MOST = 127  # integer kernels leave -128 out
_EXACT = 1e-3  # how far from whole numbers float32 products of scales leave integers of 8 bits, and much more than that


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredGrid:
    """grid: of the deploy form's weight; saturated: how many weights were 128 steps from 0 and become 127"""

    grid: WeightGrid
    saturated: int


def stored_grid(layer: str, weight: np.ndarray, axis: int, stored: StoredWeight) -> StoredGrid:
    """weight: float32, the deploy form's; axis: of its output channels.

    The file's own scales; where a batch norm behind the layer was folded into it, those multiplied by what it was multiplied by.
    UnsupportedError: the weights are asymmetric, neither gives whole numbers, or scales count another axis than output channels.
    """
    if stored.zero_point:
        raise UnsupportedError(
            f"the weights of layer {layer} have a zero point {stored.zero_point:+d} off the middle of their range, and integer kernels "
            "take symmetric ones; quantize with weights of int8, or WeightSymmetric=True"
        )
    rows = as_rows(weight, axis)
    for scale in (stored.scale, *_folded(rows, stored)):
        if scale.size not in (1, len(rows)):
            continue
        ratio = rows.astype(np.float64) / scale.astype(np.float64)[:, None]
        integers = np.rint(ratio)
        if np.abs(ratio - integers).max(initial=0.0) <= _EXACT and np.abs(integers).max(initial=0.0) <= _MOST + 1:
            return StoredGrid(grid=_grid(scale, integers, stored), saturated=int((np.abs(integers) > _MOST).sum()))
    raise UnsupportedError(
        f"layer {layer} has {stored.scale.size} scales for {len(rows)} output channels, and its weights are no whole multiples of them; "
        "quantize it per tensor or per output channel"
    )


def check_accumulators(layer: str, integers: np.ndarray, axis: int, bias: np.ndarray | None, largest: int) -> None:
    """ModelError: sums that int32 cannot hold.   bias: in units of the accumulator; largest: distance of an input from its zero point"""
    total = np.abs(as_rows(integers, axis).astype(np.int64)).sum(axis=1) * largest
    if bias is not None:
        total = total + np.abs(np.rint(bias))
    if total.max(initial=0) >= 2**31:
        raise ModelError(f"layer {layer} sums up to {total.max():.3g}, expected less than 2^31; its scales are too small for its bias")


def _folded(rows: np.ndarray, stored: StoredWeight) -> list[np.ndarray]:
    """Scales of each channel such that its largest weight is its largest integer."""
    peaks, found = np.abs(rows).max(axis=1).astype(np.float64), []
    for axis in range(stored.integers.ndim):
        if stored.integers.shape[axis] == len(rows):
            largest = np.abs(as_rows(stored.integers, axis).astype(np.int64)).max(axis=1)
            # A channel of zeros, as a batch norm that multiplies by 0 makes it, has any scale.
            scale = np.where(peaks > 0, peaks, 1.0) / np.where((peaks > 0) & (largest > 0), largest, 1)
            found.append(scale.astype(np.float32))
    return found


def _grid(scale: np.ndarray, integers: np.ndarray, stored: StoredWeight) -> WeightGrid:
    """On the fewest bits that hold the integers: what is stored is the same."""
    largest = np.abs(integers).max(initial=0.0)
    book = tuple(entry for entry in dict.fromkeys(stored.book))
    bits = {2**each: each for each in CODEBOOK_BITS}.get(len(stored.book))
    if bits is not None and list(book) == sorted(book) and fits_grid(book) and set(np.unique(integers)) <= set(book):
        return WeightGrid(scale=scale, bits=bits, books=np.array([stored.book], np.int8))
    bits = next((each for each in (*CODEBOOK_BITS, 8) if largest <= 2 ** (each - 1) - 1), 8)
    return WeightGrid(scale=scale, bits=bits)
