"""The Epilogue of a workload as TIR: one accumulator to one output value. Shared by every convolution kernel of every target."""

from __future__ import annotations

import math

from tvm import tirx
from tvm.ir import Expr

from tvm_rsq.targets.carried import level
from tvm_rsq.targets.carrier import offset
from tvm_rsq.targets.generic.narrow import Narrow
from tvm_rsq.targets.numerics import RequantizeForm, clip_rounded, fixed_point, fma, rounded, rounded_low_half
from tvm_rsq.targets.workload import Epilogue


def check_epilogue(e: Epilogue) -> None:
    """ValueError: a combination that has no formula."""
    if e.out == "float32" and (e.requantize != "float" or e.shared_residual):
        raise ValueError(f'{e} has no formula, expected requantize="float" and shared_residual=False with out="float32"')
    if e.requantize == "shift" and e.residual and not e.shared_residual:
        raise ValueError(f'{e} has no formula, expected shared_residual=True with requantize="shift"; requantize the residual first')


def has_affine(e: Epilogue) -> bool:
    """Whether the kernel has a residual_affine argument."""
    return e.residual and not e.shared_residual


def leaves_low_half(e: Epilogue, form: RequantizeForm, narrow: Narrow) -> bool:
    """Whether `quantized` may leave q in the lower half of an int32 alone, whatever is above: one subtraction less, see Narrow.apply."""
    return narrow.takes_low_half and e.bounded and e.short and e.requantize == "float" and form == "fma"


def below(e: Epilogue, narrow: Narrow) -> int:
    """What `quantized` may leave its result less than q by: the offset of the carrier, where subtracting it costs nothing."""
    free = e.bounded if e.requantize == "float" else e.requantize == "shift" and e.residual
    return offset(e.out) if narrow.takes_signed and free else 0


def is_clipped(e: Epilogue) -> bool:
    """Whether `quantized` comes clipped: int32 may not hold what is not `bounded`. A shift cannot leave int32."""
    return not e.bounded and e.requantize != "shift"


def quantized(
    total: Expr, multiplier: tuple[Expr, ...], residual: Expr | None, affine: tuple[Expr, Expr] | None, e: Epilogue, form: RequantizeForm,
    *, low_half: bool = False, below: int = 0,
) -> Expr:  # fmt: skip
    """int32: q of `Epilogue` for a carrier, less `below`, before the clip to qmin, qmax unless `is_clipped(e)`.

    total int32 = acc + bias; multiplier (m,), (k,) or (y, s); residual, as it is stored, when `e.residual`; affine (r0, r1) or (y_r, s_r)
    when `has_affine(e)`. low_half: see `leaves_low_half`; below: see `below`.
    """
    if residual is not None and e.shared_residual and below:  # what is stored is as much below its q
        r, below = residual.astype("int32"), 0
    else:
        r = None if residual is None else level(residual).astype("int32")
    if e.requantize == "shift":
        q = total >> multiplier[0]
        return q if r is None else q + r
    if e.requantize == "fixed_point":
        return _fixed_point(total, multiplier, r, affine, e)
    addend: Expr | int = e.zero_point - below
    if e.shared_residual and r is not None:
        addend, below = r + tirx.const(e.zero_point - e.residual_zero_point, "int32"), 0
    elif r is not None and affine is not None:
        addend = fma(r.astype("float32"), *affine, form=form)
    x = total.astype("float32")
    if e.bounded:
        less = below if has_affine(e) else 0
        if low_half:
            return rounded_low_half(x, multiplier[0], addend, less)
        return rounded(x, multiplier[0], addend, form=form) - tirx.const(less, "int32")
    return clip_rounded(x, multiplier[0], addend, e.qmin, e.qmax, form=form)


def dequantized(
    total: Expr, multiplier: Expr, residual: Expr | None, affine: tuple[Expr, Expr] | None, e: Epilogue, form: RequantizeForm
) -> Expr:
    """float32: y of `Epilogue` for out="float32"; arguments as `quantized` has them."""
    x = total.astype("float32")
    if residual is None or affine is None:
        return clip(x * multiplier, e)
    return clip(fma(x, multiplier, fma(level(residual).astype("float32"), *affine, form=form), form=form), e)


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


def _fixed_point(total: Expr, multiplier: tuple[Expr, ...], r: Expr | None, affine: tuple[Expr, Expr] | None, e: Epilogue) -> Expr:
    # Where |q| < 2^21, int32 holds it whatever its terms overflow to.
    dtype = "int32" if e.bounded else "int64"
    q = fixed_point(total, *multiplier).astype(dtype)
    if r is not None:
        r = r - tirx.const(e.residual_zero_point, "int32")
        q = q + (r if affine is None else fixed_point(r, *affine)).astype(dtype)
    q = q + tirx.const(e.zero_point, dtype)
    if e.bounded:
        return q
    return tirx.max(tirx.min(q, tirx.const(e.qmax, dtype)), tirx.const(e.qmin, dtype)).astype("int32")
