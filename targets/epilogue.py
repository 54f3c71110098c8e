"""The Epilogue of a workload as TIR: one accumulator to one output value. Shared by every convolution kernel of every target."""

from __future__ import annotations

import math

from tvm import tirx
from tvm.ir import Expr

from tvm_rsq.targets.numerics import RequantizeForm, fma, requantize
from tvm_rsq.targets.workload import Epilogue


def finish(
    total: Expr, multiplier: Expr, residual: Expr | None, affine: tuple[Expr, Expr] | None, e: Epilogue, form: RequantizeForm
) -> Expr:
    """The output value of int32 `total` = acc + bias, by the formulas of `Epilogue`.

    multiplier float32; residual uint8 and affine (r0, r1) float32 exactly when `e.residual`.
    """
    addend = fma(residual.astype("float32"), *affine, form=form) if e.residual else None
    if e.out == "uint8":
        return requantize(total, multiplier, e.zero_point if addend is None else addend, e.qmin, e.qmax, form=form)
    x = total.astype("float32")
    return clip(x * multiplier if addend is None else fma(x, multiplier, addend, form=form), e)


def finish_float(total: Expr, residual: Expr | None, e: Epilogue) -> Expr:
    """The output value of float32 `total` = acc + bias: clip(total + residual, low, high)."""
    return clip(total if residual is None else total + residual, e)


def clip(x: Expr, e: Epilogue) -> Expr:
    """x between e.low and e.high; infinite bounds cost nothing."""
    if not math.isinf(e.high):
        x = tirx.min(x, tirx.const(e.high, "float32"))
    if not math.isinf(e.low):
        x = tirx.max(x, tirx.const(e.low, "float32"))
    return x
