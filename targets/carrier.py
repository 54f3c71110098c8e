"""How a quantized activation is stored: q itself, or q - 128 where a CPU multiplies signed bytes.

Every workload speaks of q, 0 ... 255, whatever carries it: plans, zero points, clamps and the floats that are computed from them are the
same on all targets, and so is every result. Only what loads and stores a value knows its carrier.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from tvm import tirx
from tvm.ir import Expr

Carrier = Literal["uint8", "int8"]

_SIGN = 128  # of a byte: exclusive-or with it is q - 128 and back


def offset(carrier: str) -> int:
    """q less what is stored."""
    return _SIGN if carrier == "int8" else 0


def level(stored: Expr) -> Expr:
    """uint8, or as many lanes of it: q of a stored value. Bytes, before they are widened: one instruction for a whole vector."""
    stored = tirx.convert(stored)  # of TE, an element of a tensor is no expression yet
    dtype = str(stored.ty.dtype)
    if not dtype.startswith("int8"):
        return stored
    wide = dtype.replace("int8", "uint8")
    return stored.astype(wide) ^ tirx.const(_SIGN, wide)


def stored(q: Expr, carrier: str) -> Expr:
    """q, uint8 or lanes of it, as `carrier` or another dtype holds it."""
    if carrier != "int8":
        return q
    dtype = str(q.ty.dtype)
    return (q ^ tirx.const(_SIGN, dtype)).astype(dtype.replace("uint8", "int8"))


def stored_array(q: np.ndarray, carrier: str) -> np.ndarray:
    """The same of a uint8 array."""
    return (q ^ np.uint8(_SIGN)).view(np.int8) if carrier == "int8" else q


def level_array(values: np.ndarray) -> np.ndarray:
    """uint8 q of an array of either carrier."""
    return values.view(np.uint8) ^ np.uint8(_SIGN) if values.dtype == np.int8 else values
