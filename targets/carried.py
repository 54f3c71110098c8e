"""Stored activations from their carrier and back: in TIR, as bytes, before they are widened, which is one instruction for a vector; and
arrays."""

from __future__ import annotations

import numpy as np
from tvm import tirx
from tvm.ir import Expr

from tvm_rsq.targets.carrier import SIGN


def level(stored: Expr) -> Expr:
    """uint8, or as many lanes of it: q of a stored value."""
    stored = tirx.convert(stored)  # of TE, an element of a tensor is no expression yet
    dtype = str(stored.ty.dtype)
    if not dtype.startswith("int8"):
        return stored
    wide = dtype.replace("int8", "uint8")
    return stored.astype(wide) ^ tirx.const(SIGN, wide)


def stored(q: Expr, carrier: str) -> Expr:
    """q, uint8 or lanes of it, as `carrier` or another dtype holds it."""
    if carrier != "int8":
        return q
    dtype = str(q.ty.dtype)
    return (q ^ tirx.const(SIGN, dtype)).astype(dtype.replace("uint8", "int8"))


def stored_array(q: np.ndarray, carrier: str) -> np.ndarray:
    """uint8 q as it is stored."""
    return (q ^ np.uint8(SIGN)).view(np.int8) if carrier == "int8" else q


def level_array(values: np.ndarray) -> np.ndarray:
    """uint8 q of an array of either carrier."""
    return values.view(np.uint8) ^ np.uint8(SIGN) if values.dtype == np.int8 else values
