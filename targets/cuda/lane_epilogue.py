"""What becomes of a lane's sums: of each of its pixels, neighbouring channels, finished as `Epilogue` says and stored as one vector."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tvm import tirx
from tvm.ir import Expr
from tvm.script.ir_builder import tirx as T

from tvm_rsq.targets.carried import stored
from tvm_rsq.targets.cuda.code_lookup import as_bytes, as_words
from tvm_rsq.targets.epilogue import dequantized, has_affine, is_clipped, quantized
from tvm_rsq.targets.generic.staging import flat
from tvm_rsq.targets.numerics import RequantizeForm
from tvm_rsq.targets.workload import Conv2DWorkload

FORM: RequantizeForm = "cuda"
_VECTORS = (16, 8, 4)  # bytes that are loaded and stored together


@dataclass
class LaneEpilogue:
    """The arguments behind the weights, which it declares, and what is done with them.

    lanes   neighbouring channels of a pixel
    groups  that channels are counted in
    """

    w: Conv2DWorkload
    lanes: int
    groups: int
    bias: Expr = field(init=False)
    multiplier: Expr = field(init=False)
    residual: Expr | None = field(init=False)
    affine: Expr | None = field(init=False)
    output: Expr = field(init=False)

    def __post_init__(self) -> None:
        w, e = self.w, self.w.epilogue
        n = w.out_channels if e.per_channel else 1
        shape = (2, n) if e.requantize == "fixed_point" else (n,)
        kind = "float32" if e.requantize == "float" else "int32"
        self.bias = T.arg("bias", T.buffer((w.out_channels,), "int32"))
        self.multiplier = T.arg("multiplier", T.buffer(shape, kind))
        self.residual = self.affine = None
        if e.residual:
            self.residual = T.arg("residual", T.buffer((w.batch, w.out_height, w.out_width, w.out_channels), w.in_dtype))
        if has_affine(e):
            self.affine = T.arg("residual_affine", T.buffer((2,), kind))
        self.output = T.arg("output", T.buffer(w.out_shape, e.out))

    def flatten(self) -> None:
        """Behind the last argument: see the tensors as runs of memory."""
        w = self.w
        if self.residual is not None:
            self.residual = flat(self.residual, w.batch * w.out_height * w.out_width * w.out_channels, w.in_dtype)
        self.output = flat(self.output, math.prod(w.out_shape), w.epilogue.out)

    def emit(self, sum_of: Callable[[int, int], Expr], pixels: Sequence[tuple[Expr, Expr | None]], channel: Expr, group: Expr) -> None:
        """Store all pixels that there are.

        sum_of   int32, of the i-th pixel and the lane's c-th channel
        pixels   of each its number, and whether there is such a one; None: there always is
        channel  the first of the lane's, in its group
        """
        w, lanes = self.w, self.lanes
        channels, pitch = w.out_channels // self.groups, w.out_shape[3]
        # So many channels are stored together: all of them are there, or none.
        width = math.gcd(lanes, channels, pitch, w.out_offset)
        width = width if width >= 4 and w.epilogue.out != "float32" else 1
        # Read here, once: behind conditions TVM takes seconds to find out what of the sums is used.
        sums = [[T.bind(sum_of(p, c)) for c in range(lanes)] for p in range(len(pixels))]
        for start in range(0, lanes, width):
            at = T.bind(channel + start)
            with T.If(at < channels), T.Then():
                index = T.bind(group * channels + at)
                constants = [self._constants(index + i) for i in range(width)]
                for p, (m, there) in enumerate(pixels):
                    totals = [sums[p][start + i] + bias for i, (bias, _) in enumerate(constants)]
                    if there is None:
                        self._finish(totals, constants, m, index)
                    else:
                        with T.If(there), T.Then():
                            self._finish(totals, constants, m, index)

    def _finish(self, totals: Sequence[Expr], constants: Sequence[tuple[Expr, tuple[Expr, ...]]], m: Expr, index: Expr) -> None:
        residuals = self._residuals(m * self.w.out_channels + index, len(totals))
        values = [self._value(total, each, r) for total, (_, each), r in zip(totals, constants, residuals, strict=True)]
        self._store(values, m * self.w.out_shape[3] + (self.w.out_offset + index))

    def _constants(self, index: Expr) -> tuple[Expr, tuple[Expr, ...]]:
        e = self.w.epilogue
        at = index if e.per_channel else 0
        multiplier: tuple[Expr, ...]
        if e.requantize == "fixed_point":
            multiplier = (T.bind(self.multiplier[0, at]), T.bind(self.multiplier[1, at]))
        else:
            multiplier = (T.bind(self.multiplier[at]),)
        return T.bind(self.bias[index]), multiplier

    def _residuals(self, at: Expr, width: int) -> list[Expr | None]:
        if self.residual is None:
            return [None] * width
        if width == 1:
            return [self.residual[at]]
        found = []
        for start in range(0, width, _VECTORS[0]):
            vector = min(width, _VECTORS[0])
            words = as_words(self.residual.vload([at + start], f"{self.w.in_dtype}x{vector}"), vector)
            for word in (T.bind(each) for each in words):
                found += [(word >> tirx.const(8 * i, "uint32")).astype("uint8").astype(self.w.in_dtype) for i in range(4)]
        return found

    def _value(self, total: Expr, multiplier: tuple[Expr, ...], residual: Expr | None) -> Expr:
        e = self.w.epilogue
        affine = (self.affine[0], self.affine[1]) if self.affine is not None else None
        if e.out == "float32":
            return dequantized(total, multiplier[0], residual, affine, e, FORM)
        q = quantized(total, multiplier, residual, affine, e, FORM)
        if not is_clipped(e):
            q = tirx.max(tirx.min(q, tirx.const(e.qmax, "int32")), tirx.const(e.qmin, "int32"))
        return q

    def _store(self, values: Sequence[Expr], at: Expr) -> None:
        if len(values) == 1:
            value = values[0] if self.w.epilogue.out == "float32" else stored(values[0].astype("uint8"), self.w.epilogue.out)
            T.buffer_store(self.output, value, [at])
            return
        sign = tirx.const(0x80808080 if self.w.epilogue.out == "int8" else 0, "uint32")
        words = []
        for start in range(0, len(values), 4):
            four = [value.astype("uint32") << tirx.const(8 * i, "uint32") for i, value in enumerate(values[start : start + 4])]
            words.append((four[0] | four[1] | four[2] | four[3]) ^ sign)
        for start in range(0, len(words), 4):
            some = words[start : start + 4]
            T.buffer_store(self.output, as_bytes(some), [tirx.Ramp(at + start * 4, 1, 4 * len(some))])
