"""Nearest-neighbour resize of quantized NHWC images: the source index as integer arithmetic.

With in = the input's size, out = the output's, the source coordinate of output i is a fraction:

    asymmetric           i * in / out
    half_pixel           ((2i + 1) * in - out) / (2 * out)           (pytorch_half_pixel: 0 where out == 1)
    align_corners        i * (in - 1) / (out - 1)                    (0 where out == 1)

rounded as `rounding` says and clamped to the image. No float is involved, so a tie is a tie on every machine.
"""

from __future__ import annotations

from tvm import te, tirx
from tvm.ir import Expr

from tvm_rsq.errors import UnsupportedError
from tvm_rsq.targets.generic.kernel_builder import CPU, KernelBuilder
from tvm_rsq.targets.kernel import Kernel
from tvm_rsq.targets.workloads_movement import ResizeNearestWorkload

COORDINATES = ("half_pixel", "pytorch_half_pixel", "asymmetric", "align_corners")
ROUNDINGS = ("floor", "ceil", "round_prefer_floor", "round_prefer_ceil", "round")


def make_resize_nearest(workload: ResizeNearestWorkload, *, build: KernelBuilder = CPU) -> Kernel:
    """prim_func(x NHWC, output (N, *out_size, C)). UnsupportedError: unknown coordinates or rounding."""
    x = te.placeholder(workload.shape, workload.dtype, name="x")
    batch, height, width, channels = workload.shape
    out_height, out_width = workload.out_size

    def element(n: Expr, h: Expr, w: Expr, c: Expr) -> Expr:
        return x[n, _source(h, height, out_height, workload), _source(w, width, out_width, workload), c]

    output = te.compute((batch, out_height, out_width, channels), element, name="output")
    return build.injective("resize_nearest", [x], output)


def _source(i: Expr, size: int, out: int, workload: ResizeNearestWorkload) -> Expr:
    if size == out:  # every mode is the identity then
        return i
    numerator, denominator = _coordinate(i, size, out, workload.coordinates)
    index = _rounded(numerator, denominator, workload.rounding)
    return tirx.max(tirx.min(index, tirx.const(size - 1, "int32")), tirx.const(0, "int32"))


def _coordinate(i: Expr, size: int, out: int, mode: str) -> tuple[Expr, int]:
    if mode == "asymmetric":
        return i * size, out
    if mode in ("half_pixel", "pytorch_half_pixel"):
        if mode == "pytorch_half_pixel" and out == 1:
            return tirx.const(0, "int32"), 1
        return (i * 2 + 1) * size - out, 2 * out
    if mode == "align_corners":
        return (i * (size - 1), out - 1) if out > 1 else (tirx.const(0, "int32"), 1)
    raise UnsupportedError(f"nearest resize with coordinates {mode!r}, expected one of {COORDINATES}")


def _rounded(p: Expr, q: int, rounding: str) -> Expr:
    """p / q to an integer."""
    if rounding == "floor":
        return tirx.floordiv(p, q)
    if rounding == "ceil":
        return tirx.floordiv(p + (q - 1), q)
    if rounding == "round_prefer_ceil":
        return tirx.floordiv(p * 2 + q, 2 * q)
    if rounding == "round_prefer_floor":
        return tirx.floordiv(p * 2 + (q - 1), 2 * q)
    if rounding == "round":
        up = tirx.floordiv(p * 2 + q, 2 * q)
        down = tirx.floordiv(p * 2 + (q - 1), 2 * q)  # differs from `up` exactly at a tie
        return up - tirx.floormod(up, 2) * (up - down)  # of the two, the even one
    raise UnsupportedError(f"nearest resize with rounding {rounding!r}, expected one of {ROUNDINGS}")
