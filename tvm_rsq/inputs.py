"""Checking the arrays that a user hands to a network."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tvm_rsq.errors import InputError
from tvm_rsq.model import InputSpec


def check_inputs(specs: Sequence[InputSpec], inputs: Sequence[np.ndarray], *, any_batch: bool = False) -> list[np.ndarray]:
    """The inputs as contiguous arrays.   InputError: wrong number, dtype or shape (the leading extent is free with any_batch)."""
    if len(inputs) != len(specs):
        raise InputError(f"got {len(inputs)} inputs, expected {len(specs)}: {', '.join(spec.name for spec in specs)}")
    arrays = []
    for spec, value in zip(specs, inputs, strict=True):
        array = np.asarray(value)
        expected = f"{spec.dtype} {spec.shape}"
        if str(array.dtype) != spec.dtype:
            raise InputError(
                f"input {spec.name} is {array.dtype} {array.shape}, expected {expected}; convert it with .astype({spec.dtype!r})"
            )
        same = array.shape[1:] == spec.shape[1:] and array.ndim == len(spec.shape) if any_batch else array.shape == spec.shape
        if not same:
            raise InputError(f"input {spec.name} is {array.dtype} {array.shape}, expected {expected}; reshape it, or compile for this")
        arrays.append(np.ascontiguousarray(array))
    return arrays
