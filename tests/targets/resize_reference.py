"""Which pixel a nearest-neighbour resize takes, by the formulas of the ONNX specification in exact rational arithmetic."""

from __future__ import annotations

import math
from fractions import Fraction

HALF = Fraction(1, 2)
ROUND = {
    "floor": math.floor,
    "ceil": math.ceil,
    "round_prefer_floor": lambda x: math.ceil(x - HALF),
    "round_prefer_ceil": lambda x: math.floor(x + HALF),
    "round": round,
}
# The ONNX specification's formulas.
COORDINATE = {
    "asymmetric": lambda i, size, out: Fraction(i * size, out),
    "half_pixel": lambda i, size, out: (i + HALF) * Fraction(size, out) - HALF,
    "pytorch_half_pixel": lambda i, size, out: (i + HALF) * Fraction(size, out) - HALF if out > 1 else Fraction(0),
    "align_corners": lambda i, size, out: Fraction(i * (size - 1), out - 1) if out > 1 else Fraction(0),
}


def index_map(size, out, coordinates, rounding):
    return [min(max(ROUND[rounding](COORDINATE[coordinates](i, size, out)), 0), size - 1) for i in range(out)]
