"""The arguments of a convolution kernel and its epilogue over them: the same for every algorithm."""

from __future__ import annotations

import math

from tvm import tirx
from tvm.ir import Expr
from tvm.script.ir_builder import tirx as T

from tvm_rsq.targets.carried import stored
from tvm_rsq.targets.code_rows import CodeRows
from tvm_rsq.targets.epilogue import below, check_epilogue, dequantized, finish_float, has_affine, is_clipped, leaves_low_half, quantized
from tvm_rsq.targets.generic.narrow import CLIP, Narrow
from tvm_rsq.targets.generic.staging import flat
from tvm_rsq.targets.generic.steps import vector
from tvm_rsq.targets.numerics import RequantizeForm
from tvm_rsq.targets.workload import Conv2DWorkload


class Operands:
    """The arguments of a convolution's prim_func, declared in the protocol's order, and the epilogue over them. Use inside a builder.

    The packed weights have `weight_shape` and `weight_dtype`; `narrow` makes the bytes of a quantized output.
    ValueError: an epilogue that has no formula, or a part that is not inside the output.
    """

    def __init__(
        self,
        w: Conv2DWorkload,
        weight_shape: tuple[int, ...],
        weight_dtype: str,
        form: RequantizeForm,
        narrow: Narrow = CLIP,
    ) -> None:
        check_epilogue(w.epilogue)
        e, pixels, pitch = w.epilogue, (w.batch, w.out_height, w.out_width), w.out_shape[-1]
        if w.out_offset < 0 or w.out_offset + w.out_channels > pitch:
            raise ValueError(f"{w.out_channels} channels at out_offset {w.out_offset}, expected all within the {pitch} of out_pitch")
        self.workload, self.form, self.narrow, self.is_float = w, form, narrow, w.in_dtype == "float32"
        self.low_half, self.below = leaves_low_half(e, form, narrow), below(e, narrow)
        self.data = T.arg("data", T.buffer((w.batch, w.height, w.width, w.in_channels), w.in_dtype))
        self.weight = T.arg("weight", T.buffer(weight_shape, weight_dtype))
        self.book = T.arg("book", T.buffer((CodeRows(w.code_bits).entries,), "int8")) if w.code_bits else None
        self.bias = T.arg("bias", T.buffer((w.out_channels,), "float32" if self.is_float else "int32"))
        pair = (2,) if e.requantize == "fixed_point" else ()
        dtype = "float32" if e.requantize == "float" else "int32"
        if not self.is_float:
            self.multiplier = T.arg("multiplier", T.buffer((*pair, w.out_channels if e.per_channel else 1), dtype))
        if e.residual:
            residual = T.arg("residual", T.buffer((*pixels, w.out_channels), w.in_dtype))
            if not self.is_float and has_affine(e):
                self.affine = T.arg("residual_affine", T.buffer((2,), dtype))
        output = T.arg("output", T.buffer(w.out_shape, e.out))
        self.output = flat(output, math.prod(w.out_shape), e.out)
        self.residual = flat(residual, math.prod(pixels) * w.out_channels, w.in_dtype) if e.residual else None

    def start(self, lanes: int, channel: Expr) -> Expr:
        """What the sum for output channels `channel`... starts from: the bias, so that the epilogue need not add it."""
        return self.bias.vload([channel], vector(str(self.bias.dtype), lanes))

    def store(self, acc: Expr, lanes: int, first: int, pixel: Expr, channel: Expr, vecs: int = 1) -> None:
        """acc[first : first + vecs * lanes] -> output channels `channel`... of the `pixel`-th pixel. Those of acc are lost.

        vecs > 1 hands over neighbours, which take fewer instructions together.
        """
        index, place = pixel * self.workload.out_channels + channel, self.place(pixel, channel)
        in_place = self.workload.epilogue.out != "float32"
        for at in range(0, vecs * lanes, lanes):
            target, base = (acc, first + at) if in_place else (self.output, place + at)
            if lanes == 1:
                T.buffer_store(target, self._finish(acc[first + at], index + at, channel + at), [base])
                continue
            with T.vectorized(lanes) as lane:
                T.buffer_store(target, self._finish(acc[first + at + lane], index + at + lane, channel + at + lane), [base + lane])
        if in_place:
            self._store_bytes(acc, lanes, first, place, vecs)

    def place(self, pixel: Expr, channel: Expr) -> Expr:
        """Where in `output` a channel of the `pixel`-th pixel is."""
        return pixel * self.workload.out_shape[-1] + self.workload.out_offset + channel

    def _finish(self, total: Expr, index: Expr, channel: Expr) -> Expr:
        """The int32 or float32 value of the index-th output, which is `channel` of its pixel."""
        e = self.workload.epilogue
        residual = None if self.residual is None else self.residual[index]
        if self.is_float:
            return finish_float(total, residual, e)
        column = channel if e.per_channel else 0
        affine = (self.affine[0], self.affine[1]) if has_affine(e) else None
        if e.out == "float32":
            return dequantized(total, self.multiplier[column], residual, affine, e, self.form)
        rows = (0, 1) if e.requantize == "fixed_point" else ()
        multiplier = tuple(self.multiplier[row, column] for row in rows) if rows else (self.multiplier[column],)
        return quantized(total, multiplier, residual, affine, e, self.form, low_half=self.low_half, below=self.below)

    def _store_bytes(self, acc: Expr, lanes: int, first: int, place: Expr, vecs: int) -> None:
        e, at = self.workload.epilogue, 0
        qmin, qmax = (0, 255) if is_clipped(e) else (e.qmin, e.qmax)
        for width, count in self.narrow.groups(lanes, vecs):
            vectors = [acc.vload([first + at + i * width], vector("int32", width)) for i in range(count)]
            size = width * count
            where = place + at if size == 1 else tirx.Ramp(place + at, 1, size)
            made = self.narrow.apply(vectors, width, qmin, qmax, low_half=self.low_half, signed=self.below > 0)
            T.buffer_store(self.output, made if self.below else stored(made, e.out), [where])
            at += size
