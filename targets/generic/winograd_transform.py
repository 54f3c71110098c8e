"""Winograd's transforms for 3x3 filters, in integers: F(2x2, 3x3) and F(4x4, 3x3), exact.

    conv(d, g) = A [(S G g) * (B d)] / L      along each axis; so L^2 times the convolution in two dimensions

F(2) uses the points 0, 1, -1, oo, L = 2; F(4) the points 0, 1, -1, 2, -1/2, oo, L = 30: unlike with the usual -2 in place of -1/2, where
L = 24, only one factor of L is even, and all the others have an inverse modulo 2^32. The fractions that G usually holds are made whole by
S = L / N, on the side of the weights, where it costs nothing:

            B d, for d in 0..255      S G g, for |g| <= 127      L^2       so int32 sums, modulo 2^32, give the convolution if it is within
    F(2)    -510 .. 1020              1143                       4         +-2^29
    F(4)    +-24990                   28575                      900       +-2^29

Of signed bytes, d in -128..127, B d is -512 .. 510 and +-24990. Transformed inputs and weights fit int16; that the sums between them
wrap around does not matter.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias, TypeVar

import numpy as np

from tvm_rsq.targets.generic.wrapping import Wrapping

# A convolution whose sums are smaller than this in absolute value comes out exactly.
EXACT_BELOW = 2**29
# The inverse of (L / 2)^2 modulo 2^32, as an int32, by outputs along an axis.
_ODD_INVERSE = {2: 1, 4: pow(225, -1, 2**32) - 2**32}

Value = TypeVar("Value", np.ndarray, Wrapping)  # or an Expr
# Gives a value a name, so that it is computed once.
Keep: TypeAlias = Callable[[Value], Value]


def transform_filters(weight: np.ndarray, m: int) -> np.ndarray:
    """OHWI int8, 3x3 -> (m + 2, m + 2, OC, IC) int16.   ValueError: a weight of -128, for which int16 is too small."""
    check_filters(weight)
    rows = transform_weight(m, list(weight.astype(np.int16).transpose(1, 2, 0, 3)), _as_it_is)
    return np.array([transform_weight(m, list(row), _as_it_is) for row in rows])


def check_filters(weight: np.ndarray) -> None:
    """ValueError: a weight of -128."""
    if weight.min(initial=0) < -127:
        raise ValueError("a weight is -128, Winograd's transform takes -127 to 127; quantize the weights symmetrically")


def transform_weight(m: int, g: Sequence[Value], keep: Keep[Value]) -> list[Value]:
    """S G g along one axis: m + 2 int16 vectors for 3. Numpy arrays will do as well."""
    if m == 2:
        total = keep(g[0] + g[2])
        return [g[0] + g[0], total + g[1], total - g[1], g[2] + g[2]]
    double = [keep(x + x) for x in g]
    fourfold = [keep(x + x) for x in double]
    total, middle = keep(fourfold[0] + fourfold[2] + g[0] + g[2]), keep(fourfold[1] + g[1])
    return [
        (fourfold[0] + fourfold[0]) + (fourfold[0] + double[0] + g[0]),  # 15 g0
        total + middle,  # 5 (g0 + g1 + g2)
        total - middle,  # 5 (g0 - g1 + g2)
        g[0] + double[1] + fourfold[2],  # g0 + 2 g1 + 4 g2
        double[1] - (fourfold[0] + g[2]),  # -4 g0 + 2 g1 - g2
        (fourfold[2] + fourfold[2]) + (fourfold[2] + double[2] + g[2]),  # 15 g2
    ]


def transform_input(m: int, d: Sequence[Value], keep: Keep[Value]) -> list[Value]:
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


def transform_output(m: int, s: Sequence[Value], keep: Keep[Value]) -> list[Value]:
    """A s along one axis: m int32 vectors for m + 2. Numpy arrays will do as well."""
    total, difference = keep(s[1] + s[2]), keep(s[1] - s[2])
    if m == 2:
        return [s[0] + total, difference + s[3]]
    return [
        (s[0] - s[3]) + (total + (s[4] << 3)),
        difference - ((s[3] + (s[4] << 1)) << 1),
        total + ((s[4] - (s[3] << 1)) << 1),
        (s[5] - s[4]) + (difference - (s[3] << 3)),
    ]


def divide_output(m: int, total: Value) -> Value:
    """total / L^2, for an int32 total that is a multiple of it modulo 2^32."""
    return (total if m == 2 else total * _ODD_INVERSE[m]) >> 2


def _as_it_is(value: np.ndarray) -> np.ndarray:
    return value
