"""Workloads of the kernels that move quantized values (or any dtype) without changing them; concat may change their scale."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class PermuteWorkload:
    """Output axis i is input axis permutation[i] (numpy.transpose)."""

    shape: tuple[int, ...]
    permutation: tuple[int, ...]
    dtype: str = "uint8"


@dataclass(frozen=True, slots=True, kw_only=True)
class PadWorkload:
    """Constant padding with q = `value` (the zero point, for the real 0); before and after per axis, >= 0."""

    shape: tuple[int, ...]
    before: tuple[int, ...]
    after: tuple[int, ...]
    value: int = 0
    dtype: str = "uint8"

    @property
    def out_shape(self) -> tuple[int, ...]:
        return tuple(b + size + a for b, size, a in zip(self.before, self.shape, self.after, strict=True))


@dataclass(frozen=True, slots=True, kw_only=True)
class StridedSliceWorkload:
    """x[begin[0]:...:strides[0], ...] of `out_shape` elements; begin within the tensor, strides not 0 (negative ones walk back)."""

    shape: tuple[int, ...]
    begin: tuple[int, ...]
    strides: tuple[int, ...]
    out_shape: tuple[int, ...]
    dtype: str = "uint8"


@dataclass(frozen=True, slots=True, kw_only=True)
class ResizeNearestWorkload:
    """Nearest-neighbour resize of NHWC images; indices by exact rational arithmetic, so a tie is a tie.

    coordinates  ONNX coordinate_transformation_mode
    rounding     ONNX nearest_mode, or "round" (half to even)
    """

    shape: tuple[int, int, int, int]
    out_size: tuple[int, int]
    coordinates: Literal["half_pixel", "pytorch_half_pixel", "asymmetric", "align_corners"] = "asymmetric"
    rounding: Literal["floor", "ceil", "round_prefer_floor", "round_prefer_ceil", "round"] = "floor"
    dtype: str = "uint8"


@dataclass(frozen=True, slots=True, kw_only=True)
class ConcatWorkload:
    """Concatenation along `axis` (0 <= axis < rank).   input i is copied, or q' = clip(rne(fma(q, r[i, 0], r[i, 1])), qmin, qmax)

    requantized  one flag per input: False copies it as it is
    in_place     one flag per input: True is one that its own kernel has stored in the output; it is no argument and not touched. () is none
    """

    shapes: tuple[tuple[int, ...], ...]
    axis: int
    requantized: tuple[bool, ...]
    in_place: tuple[bool, ...] = ()
    dtype: str = "uint8"
    qmin: int = 0
    qmax: int = 255

    @property
    def out_shape(self) -> tuple[int, ...]:
        first = self.shapes[0]
        return (*first[: self.axis], sum(shape[self.axis] for shape in self.shapes), *first[self.axis + 1 :])
