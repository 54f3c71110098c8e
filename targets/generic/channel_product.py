"""Product of an image and one value a channel: what squeeze-and-excite ends with.

The integers a - z_a and b - z_b are below 2^8 and their product below 2^16, so float32 holds all three, and a product of floats is the
product of the integers. The factors of the channels are made floats once.

    parallel over (image, piece of rows), then blocks of channels, whose factors stay in registers, then rows
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from tvm import tirx
from tvm.ir import Expr
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T

from tvm_rsq.targets import numerics
from tvm_rsq.targets.carried import level
from tvm_rsq.targets.generic.flat_kernel import store_vector
from tvm_rsq.targets.generic.narrow import Narrow
from tvm_rsq.targets.generic.schedule import PARALLEL_WORK
from tvm_rsq.targets.generic.staging import flat
from tvm_rsq.targets.kernel import Kernel
from tvm_rsq.targets.workloads_elementwise import MultiplyWorkload

_LANES = 32  # four registers of 256 bits hold the factors
_MIN_LANES = 8
_PIECE_BYTES = 8192  # of a task: a part of the first-level cache, since every block of channels goes over the rows


@dataclass(frozen=True, slots=True)
class ChannelProduct:
    """A product of (images, rows, channels) and (factor_images, channels), factor_images being images or 1.

    image_is_left tells which of the workload's operands is the former.
    """

    workload: MultiplyWorkload
    image_is_left: bool
    images: int
    rows: int
    channels: int
    factor_images: int

    @classmethod
    def of(cls, w: MultiplyWorkload) -> ChannelProduct | None:
        """`w` seen so, or None if it is another kind of product."""
        if w.out != w.dtype:
            return None
        for image, factor, is_left in ((w.left_shape, w.right_shape, True), (w.right_shape, w.left_shape, False)):
            if len(image) < 2 or len(factor) > len(image):
                continue
            factor = (1,) * (len(image) - len(factor)) + factor
            plain = factor[-1] == image[-1] >= _MIN_LANES and factor[0] in (1, image[0]) and all(extent == 1 for extent in factor[1:-1])
            if plain:
                return cls(w, is_left, image[0], math.prod(image[1:-1]), image[-1], factor[0])
        return None

    def kernel(self, form: numerics.RequantizeForm, narrow: Narrow) -> Kernel:
        """prim_func(left carrier, right carrier, multiplier float32 (1,), output)."""
        w, channels = self.workload, self.channels
        size = self.images * self.rows * channels
        pieces = min(self.rows, -(-self.rows * channels // _PIECE_BYTES))
        a_piece = -(-self.rows // pieces)
        with IRBuilder() as builder:
            with T.prim_func(s_tir=True):
                T.func_attr({"tirx.noalias": True, "tirx.is_scheduled": True, "global_symbol": "main"})
                left, right = T.arg("left", T.buffer(w.left_shape, w.dtype)), T.arg("right", T.buffer(w.right_shape, w.dtype))
                multiplier = T.arg("multiplier", T.buffer((1,), "float32"))
                out_shape = w.left_shape if self.image_is_left else w.right_shape
                output = flat(T.arg("output", T.buffer(out_shape, w.dtype)), size, w.dtype)
                image, given = (left, right) if self.image_is_left else (right, left)
                source, given = flat(image, size, w.dtype), flat(given, self.factor_images * channels, w.dtype)
                zeros = (w.left_zero_point, w.right_zero_point)
                zero, factor_zero = zeros if self.image_is_left else zeros[::-1]
                factors = T.alloc_buffer((self.factor_images * channels,), "float32")
                with T.serial(self.factor_images * channels) as i:
                    T.buffer_store(factors, _float(given[i], factor_zero), [i])
                loop = T.parallel if size >= PARALLEL_WORK else T.serial
                with loop(0, self.images * pieces) as task:
                    n, piece = tirx.floordiv(task, pieces), tirx.floormod(task, pieces)
                    first = piece * a_piece
                    with T.serial(-(-channels // self._lanes)) as block:
                        channel = tirx.min(block * self._lanes, channels - self._lanes)
                        factor_at = (n * channels if self.factor_images > 1 else 0) + channel
                        with T.serial(tirx.min(a_piece, self.rows - first)) as row:
                            at = (n * self.rows + first + row) * channels + channel

                            def value(lane: Expr | int, at: Expr = at, factor_at: Expr = factor_at) -> Expr:
                                x = _float(source[at + lane], zero) * factors[factor_at + lane]
                                return numerics.clip_rounded(x, multiplier[0], w.zero_point, w.qmin, w.qmax, form=form)

                            store_vector(output, at, self._lanes, value, narrow)
        return Kernel(name="multiply_channels", prim_func=builder.get())

    @property
    def _lanes(self) -> int:
        return min(_LANES, self.channels // _MIN_LANES * _MIN_LANES)


def _float(q: Expr, zero_point: int) -> Expr:
    return (level(q).astype("int32") - tirx.const(zero_point, "int32")).astype("float32")
