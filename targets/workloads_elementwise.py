"""Workloads of the integer kernels that are not convolutions, as frozen values.

`real = scale * (q - zero_point)`, 0 <= q <= 255; images are NHWC; `dtype` is how q is stored (see carrier.py), which no formula depends on.
Scales are arguments of the kernels, so that layers of one shape share a kernel; zero points and clamps are part of the workload. rne is
round-half-to-even, fma rounds once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from tvm_rsq.targets.carrier import Carrier

OutType = Literal["uint8", "int8", "float32"]


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantizeWorkload:
    """float32 -> carrier:   q = clip(rne(x * inv_scale + zero_point), qmin, qmax), rounded once.

    shape        the input's
    permutation  output axis i is input axis permutation[i] (numpy.transpose); None keeps the order
    """

    shape: tuple[int, ...]
    permutation: tuple[int, ...] | None = None
    dtype: Carrier = "uint8"
    zero_point: int = 0
    qmin: int = 0
    qmax: int = 255


@dataclass(frozen=True, slots=True, kw_only=True)
class DequantizeWorkload:
    """carrier -> float32:   x = float32(q - zero_point) * scale; shape and permutation as in QuantizeWorkload."""

    shape: tuple[int, ...]
    permutation: tuple[int, ...] | None = None
    dtype: Carrier = "uint8"
    zero_point: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class AddWorkload:
    """Sum or difference of two quantized tensors of own scales, broadcast as numpy does.

    out = carrier:    q = clip(rne(fma(left, r0, fma(right, r1, r2))), qmin, qmax)
    out = "float32":  y = clip(fma(left, r0, fma(right, r1, r2)), low, high)
    with (r0, r1, r2) from `targets.generic.binary.add_affine`.
    """

    left_shape: tuple[int, ...]
    right_shape: tuple[int, ...]
    dtype: Carrier = "uint8"
    out: OutType = "uint8"
    qmin: int = 0
    qmax: int = 255
    low: float = float("-inf")
    high: float = float("inf")


@dataclass(frozen=True, slots=True, kw_only=True)
class MultiplyWorkload:
    """Product of two quantized tensors, broadcast as numpy does.   p = (left - left_zero_point) * (right - right_zero_point), int32

    out = carrier:    q = clip(rne(float32(p) * m + zero_point), qmin, qmax), rounded once, m = s_left * s_right / s_out
    out = "float32":  y = clip(float32(p) * m, low, high), m = s_left * s_right
    """

    left_shape: tuple[int, ...]
    right_shape: tuple[int, ...]
    left_zero_point: int = 0
    right_zero_point: int = 0
    dtype: Carrier = "uint8"
    out: OutType = "uint8"
    zero_point: int = 0
    qmin: int = 0
    qmax: int = 255
    low: float = float("-inf")
    high: float = float("inf")


@dataclass(frozen=True, slots=True, kw_only=True)
class RequantizeWorkload:
    """carrier -> carrier of another scale:   q' = clip(rne(fma(q, r0, r1)), qmin, qmax), (r0, r1) from `quantize.requantize_affine`."""

    shape: tuple[int, ...]
    dtype: Carrier = "uint8"
    qmin: int = 0
    qmax: int = 255


@dataclass(frozen=True, slots=True, kw_only=True)
class LookupWorkload:
    """Any unary function as a table:   y = table[q], 256 entries of type `out`, as they are stored."""

    shape: tuple[int, ...]
    dtype: Carrier = "uint8"
    out: OutType = "uint8"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClampWorkload:
    """q' = clip(q, qmin, qmax), same scale."""

    shape: tuple[int, ...]
    dtype: Carrier = "uint8"
    qmin: int = 0
    qmax: int = 255


@dataclass(frozen=True, slots=True, kw_only=True)
class MaxPoolWorkload:
    """Window maximum, NHWC, same scale in and out. Padding never wins.

    padding is (top, left, bottom, right); out_size (OH, OW) is resolved by the caller (ceil_mode), windows may reach beyond the padding.
    A window without any valid element yields q = 0.
    """

    shape: tuple[int, int, int, int]
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilation: tuple[int, int] = (1, 1)
    out_size: tuple[int, int]
    dtype: Carrier = "uint8"

    @property
    def out_shape(self) -> tuple[int, int, int, int]:
        return (self.shape[0], *self.out_size, self.shape[3])


@dataclass(frozen=True, slots=True, kw_only=True)
class AvgPoolWorkload:
    """Window average, NHWC.   acc = sum over the window's valid elements of (q - input_zero_point), int32 (padding counts as the real 0)

    count            count_include_pad: the window's elements inside the padded input (height + top + bottom, width + left + right);
                     otherwise its valid elements. At least 1.
    r                m / float32(count), a float32 division
    out = carrier:   q = clip(rne(float32(acc) * r + zero_point), qmin, qmax), rounded once, m = s_in / s_out
    out = "float32": y = clip(float32(acc) * r, low, high), m = s_in
    """

    shape: tuple[int, int, int, int]
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilation: tuple[int, int] = (1, 1)
    out_size: tuple[int, int]
    count_include_pad: bool = False
    dtype: Carrier = "uint8"
    input_zero_point: int = 0
    out: OutType = "uint8"
    zero_point: int = 0
    qmin: int = 0
    qmax: int = 255
    low: float = float("-inf")
    high: float = float("inf")

    @property
    def out_shape(self) -> tuple[int, int, int, int]:
        return (self.shape[0], *self.out_size, self.shape[3])


@dataclass(frozen=True, slots=True, kw_only=True)
class ReduceWorkload:
    """Reduction over `axes` (0 <= axis < rank, ascending).

    kind "sum", "mean":  acc = sum(q - input_zero_point), int32; r = m for a sum, m / float32(count) (a float32 division) for a mean; then
                         as in AvgPoolWorkload
    kind "max":          maximum; same scale, `out` must be the carrier; no multiplier argument
    """

    shape: tuple[int, ...]
    axes: tuple[int, ...]
    keepdims: bool = True
    kind: Literal["sum", "mean", "max"] = "mean"
    dtype: Carrier = "uint8"
    input_zero_point: int = 0
    out: OutType = "uint8"
    zero_point: int = 0
    qmin: int = 0
    qmax: int = 255
    low: float = float("-inf")
    high: float = float("inf")

    @property
    def count(self) -> int:
        return math.prod(self.shape[axis] for axis in self.axes)

    @property
    def out_shape(self) -> tuple[int, ...]:
        if self.keepdims:
            return tuple(1 if axis in self.axes else size for axis, size in enumerate(self.shape))
        return tuple(size for axis, size in enumerate(self.shape) if axis not in self.axes)
