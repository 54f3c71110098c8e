"""How a quantized activation is stored: q itself, or q - 128 where a CPU multiplies signed bytes.

Every workload speaks of q, 0 ... 255, whatever carries it: plans, zero points, clamps and the floats that are computed from them are the
same on all targets, and so is every result. Only what loads and stores a value knows its carrier (carried.py).
"""

from __future__ import annotations

from typing import Literal

Carrier = Literal["uint8", "int8"]

SIGN = 128  # of a byte: exclusive-or with it is q - 128 and back


def offset(carrier: str) -> int:
    """q less what is stored."""
    return SIGN if carrier == "int8" else 0
