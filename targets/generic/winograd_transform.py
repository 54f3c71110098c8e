"""Winograd's transforms for 3x3 filters, in integers: F(2x2, 3x3) and F(4x4, 3x3), exact.

    conv(d, g) = A [(S G g) * (B d)] / L      along each axis; so L^2 times the convolution in two dimensions

F(2) uses the points 0, 1, -1, oo, L = 2; F(4) the points 0, 1, -1, 2, -1/2, oo, L = 30: unlike with the usual -2 in place of -1/2, where
L = 24, only one factor of L is even, and all the others have an inverse modulo 2^32. The fractions that G usually holds are made whole by
S = L / N, on the side of the weights, where it costs nothing:

            B d, for d in 0..255      S G g, for |g| <= 127      L^2       so int32 sums, modulo 2^32, give the convolution if it is within
    F(2)    -510 .. 1020              1143                       4         +-2^29
    F(4)    +-24990                   28575                      900       +-2^29

Transformed inputs and weights fit int16; that the sums between them wrap around does not matter.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from tvm.ir import Expr

# A convolution whose sums are smaller than this in absolute value comes out exactly.
EXACT_BELOW = 2**29
# The inverse of (L / 2)^2 modulo 2^32, as an int32, by outputs along an axis.
_ODD_INVERSE = {2: 1, 4: pow(225, -1, 2**32) - 2**32}

_WEIGHT = {
    2: ((2, 0, 0), (1, 1, 1), (1, -1, 1), (0, 0, 2)),
    4: ((15, 0, 0), (5, 5, 5), (5, -5, 5), (-1, -2, -4), (-4, 2, -1), (0, 0, 15)),
}

# Gives a value a place of its own, so that it is computed once.
Keep = Callable[[Expr], Expr]


def transform_weight(weight: np.ndarray, m: int) -> np.ndarray:
    """OHWI int8, 3x3 -> (m + 2, m + 2, OC, IC) int16.   ValueError: a weight of -128, for which int16 is too small."""
    if weight.min(initial=0) < -127:
        raise ValueError("a weight is -128, Winograd's transform takes -127 to 127; quantize the weights symmetrically")
    g = np.array(_WEIGHT[m], np.int64)
    return np.einsum("ia,jb,oabc->ijoc", g, g, weight.astype(np.int64)).astype(np.int16)


def transform_input(m: int, d: Sequence[Expr], keep: Keep) -> list[Expr]:
    """B d along one axis: m + 2 int16 vectors for m + 2. Numpy arrays will do as well."""
    if m == 2:
        return [d[0] - d[2], d[1] + d[2], d[2] - d[1], d[3] - d[1]]
    # Doubling is an addition: CPUs add on more ports than they shift.
    p, r = keep(d[1] - d[3]), keep(d[2] - d[4])
    p2, r2 = keep(p + p), keep(r + r)
    left, right = keep(d[0] - d[2]), keep(d[5] - d[3])
    total, difference = keep(d[2] + d[3]), keep(d[2] - d[3])
    return [
        (left + left) + (p2 + p - r2),  # 2 d0 + 3 d1 - 4 d2 - 3 d3 + 2 d4
        (p2 + r2) + (total + total + total),  # 2 d1 + 5 d2 + d3 - 2 d4
        (p2 - r2) + (difference + difference + difference),  # 2 d1 + d2 - 5 d3 + 2 d4
        p + r2,  # d1 + 2 d2 - d3 - 2 d4
        p2 - r,  # 2 d1 - d2 - 2 d3 + d4
        (right + right) + (p2 + r2 + r),  # 2 d1 + 3 d2 - 4 d3 - 3 d4 + 2 d5
    ]


def transform_output(m: int, s: Sequence[Expr], keep: Keep) -> list[Expr]:
    """A s along one axis: m int32 vectors for m + 2. Numpy arrays will do as well."""
    total, difference = keep(s[1] + s[2]), keep(s[1] - s[2])
    if m == 2:
        return [s[0] + total, difference + s[3]]
    return [
        (s[0] + s[3]) + (total + (s[4] << 3)),
        difference + ((s[3] - (s[4] << 1)) << 1),
        total + (((s[3] << 1) + s[4]) << 1),
        (s[5] - s[4]) + (difference + (s[3] << 3)),
    ]


def divide_output(m: int, total: Expr) -> Expr:
    """total / L^2, for an int32 total that is a multiple of it modulo 2^32."""
    return (total if m == 2 else total * _ODD_INVERSE[m]) >> 2
