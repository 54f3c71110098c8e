"""Tensors that are too large to be worked with: refused before anyone asks for the memory.

A few numbers in a file can ask for terabytes. What a network takes while it is quantized is about eleven times its largest value: samples,
values that are alive at once, and what statistics are made of (measured: 9.0 times, and 0.3 GB that everything takes). What is made of
constants, such as a weight of zeros, is copied less often.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence

from tvm_rsq.errors import ConfigError, ModelError, UnsupportedError

VARIABLE = "TVM_RSQ_MEMORY_GB"
_DEFAULT_GB = 4.0
_VALUE, _CONSTANT = 11, 5  # times its own size
_LARGEST_EXTENT = 2**31 - 1  # TVM's code for the CPU counts in int32 where it may


def check_value(name: str, shape: Sequence[int], *, constant: bool = False) -> None:
    """UnsupportedError: a float32 value of this shape, computed of inputs or of constants alone, is beyond the limit.
    ModelError: it is empty. ConfigError: the limit is no number.
    """
    if not constant and min(shape, default=1) < 1:
        raise ModelError(f"tensor {name} has the shape {list(shape)}, which holds nothing; use a larger image")
    if max(shape, default=0) > _LARGEST_EXTENT:
        raise UnsupportedError(f"tensor {name} has the shape {list(shape)}, expected extents up to {_LARGEST_EXTENT}; correct the network")
    wanted, limit = math.prod(shape) * 4 * (_CONSTANT if constant else _VALUE) / 1e9, memory_gb()
    if wanted > limit:
        raise UnsupportedError(
            f"tensor {name} of shape {list(shape)} makes quantizing take about {wanted:.3g} GB, the limit is {limit:g}; "
            f"use a smaller batch or image, or set {VARIABLE} if this machine has more"
        )


def memory_gb() -> float:
    """What a network may take, 4 unless the environment says otherwise.   ConfigError: it says no number above 0"""
    text = os.environ.get(VARIABLE, "")
    try:
        limit = float(text) if text else _DEFAULT_GB
    except ValueError:
        limit = math.nan
    if not limit > 0:
        raise ConfigError(f"{VARIABLE} is {text!r}, expected a number of gigabytes above 0")
    return limit
