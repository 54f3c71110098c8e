"""The arguments of a convolution kernel and its epilogue over them: the same for every algorithm."""

from __future__ import annotations

from tvm.ir import Expr
from tvm.script.ir_builder import tirx as T

from tvm_rsq.targets.epilogue import finish, finish_float
from tvm_rsq.targets.generic.staging import flat
from tvm_rsq.targets.generic.steps import vector
from tvm_rsq.targets.numerics import RequantizeForm
from tvm_rsq.targets.workload import Conv2DWorkload


class Operands:
    """The arguments of a convolution's prim_func, declared in the protocol's order, and the epilogue over them. Use inside a builder.

    The packed weights have `weight_shape` and `weight_dtype`.
    """

    def __init__(self, w: Conv2DWorkload, weight_shape: tuple[int, ...], weight_dtype: str, form: RequantizeForm) -> None:
        e, out = w.epilogue, (w.batch, w.out_height, w.out_width, w.out_channels)
        self.workload, self.form, self.is_float = w, form, w.in_dtype == "float32"
        self.data = T.arg("data", T.buffer((w.batch, w.height, w.width, w.in_channels), w.in_dtype))
        self.weight = T.arg("weight", T.buffer(weight_shape, weight_dtype))
        self.bias = T.arg("bias", T.buffer((w.out_channels,), "float32" if self.is_float else "int32"))
        if not self.is_float:
            self.multiplier = T.arg("multiplier", T.buffer((w.out_channels if e.per_channel else 1,), "float32"))
        if e.residual:
            residual = T.arg("residual", T.buffer(out, w.in_dtype))
            if not self.is_float:
                self.affine = T.arg("residual_affine", T.buffer((2,), "float32"))
        output = T.arg("output", T.buffer(out, e.out))
        size = w.batch * w.out_height * w.out_width * w.out_channels
        self.output = flat(output, size, e.out)
        self.residual = flat(residual, size, w.in_dtype) if e.residual else None

    def start(self, lanes: int, channel: Expr) -> Expr:
        """What the sum for output channels `channel`... starts from: the bias, so that the epilogue need not add it."""
        return self.bias.vload([channel], vector(str(self.bias.dtype), lanes))

    def store(self, acc: Expr, lanes: int, first: int, pixel: Expr, channel: Expr) -> None:
        """acc[first : first + lanes] -> output channels `channel`... of the `pixel`-th pixel."""
        if lanes == 1:
            self._store_one(acc[first], pixel, channel)
            return
        with T.vectorized(lanes) as lane:
            self._store_one(acc[first + lane], pixel, channel + lane)

    def _store_one(self, acc: Expr, pixel: Expr, channel: Expr) -> None:
        e, index = self.workload.epilogue, pixel * self.workload.out_channels + channel
        residual = self.residual[index] if e.residual else None
        if self.is_float:
            value = finish_float(acc, residual, e)
        else:
            multiplier = self.multiplier[channel if e.per_channel else 0]
            affine = (self.affine[0], self.affine[1]) if e.residual else None
            value = finish(acc, multiplier, residual, affine, e, self.form)
        T.buffer_store(self.output, value, [index])
