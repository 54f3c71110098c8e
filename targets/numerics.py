"""The arithmetic of quantization as TIR expressions, equal to the last bit on every target.

All functions take and return scalar expressions, to be used inside `te.compute`; every one of them vectorises.

Rounding to an integer is done by adding MAGIC = 1.5 * 2^23: a float32 in [2^23, 2^24) has a unit in the last place of 1, so the addition
itself rounds to nearest, ties to even (MAGIC is even), and the low bits of the sum's bit pattern are the integer. Beyond that range the
bit patterns of floats are still ordered like the floats (negative sums are negative integers), so clamping the pattern between
MAGIC_BITS + qmin and MAGIC_BITS + qmax is right for every finite value and for the infinities.

Whether a compiler contracts a multiplication and an addition into an fma would change last bits between targets, so nothing is left to it.
Every product that is followed by a sum is one of ours, in the `form` that the target's CPUs have (`TargetSpec.form`):

"fma"   `llvm.fma`: one instruction, rounded once (x86 with FMA, every aarch64).
"cuda"  `__fmaf_rn`, the same of a GPU.
"f64"   the same value without such an instruction: the product of two float32 is exact in float64 (24 + 24 <= 53 bits).
        Rounded to an integer: the sum with 1.5 * 2^52 + c rounds once, straight to the integer, as the float32 fma with MAGIC + c does.
        Rounded to float32: the float64 sum is first rounded to odd (from the error term of the addition), which makes the second
        rounding, to float32, give what a single one would (Boldo and Melquiond, 2008: 53 >= 2 * 24 + 2).
"""

from __future__ import annotations

from typing import Literal

from tvm import tirx
from tvm.ir import Expr

RequantizeForm = Literal["fma", "f64", "cuda"]

MAGIC = 12582912.0  # 1.5 * 2^23
MAGIC_BITS = 0x4B400000  # its float32 bit pattern
_MAGIC64 = 6755399441055744.0  # 1.5 * 2^52, the same for float64


def fma(a: Expr, b: Expr, c: Expr, *, form: RequantizeForm) -> Expr:
    """a * b + c in float32, rounded once. All float32; no overflow beyond float32."""
    if form == "fma":
        return tirx.call_llvm_pure_intrin("float32", "llvm.fma", a, b, c)
    if form == "cuda":
        return tirx.call_pure_extern("float32", "__fmaf_rn", a, b, c)
    return _sum_rounded_to_odd(a.astype("float64") * b.astype("float64"), c.astype("float64")).astype("float32")


def requantize(
    acc: Expr,
    multiplier: Expr,
    addend: Expr | int,
    qmin: int,
    qmax: int,
    *,
    form: RequantizeForm,
    dtype: str = "uint8",
) -> Expr:
    """An int32 accumulator (bias included) to a quantized value of `dtype`, as `Epilogue` says.

    addend an int (the zero point):      clip(rne(float32(acc) * multiplier + addend)), exact up to the one rounding
    addend a float32 expression:         clip(rne(fma(float32(acc), multiplier, addend)))
    multiplier is float32; qmin and qmax lie in the range of `dtype` ("uint8" or "int8").
    """
    return quantize(acc.astype("float32"), multiplier, addend, qmin, qmax, form=form, dtype=dtype)


def quantize(
    x: Expr,
    inv_scale: Expr,
    addend: Expr | int,
    qmin: int = 0,
    qmax: int = 255,
    *,
    form: RequantizeForm,
    dtype: str = "uint8",
) -> Expr:
    """float32 to `dtype`: clip(rne(x * inv_scale + addend)); `inv_scale` is float32(1 / scale), an int addend (the zero point) rounds once.

    x may be infinite, not NaN.
    """
    return clip_rounded(x, inv_scale, addend, qmin, qmax, form=form).astype(dtype)


def rounded(x: Expr, scale: Expr, addend: Expr | int, *, form: RequantizeForm) -> Expr:
    """int32 rne(x * scale + addend), which the caller knows to be less than 2^21 in size; x and scale are float32.

    addend an int or int32, less than 2^21 in size:    one rounding, straight to the integer
    addend float32:                                    rne(fma(x, scale, addend))
    """
    total = _magic_sum(x, scale, addend, form)
    if str(total.ty) == "float64":
        # The low 32 bits are the integer's: those of 1.5 * 2^52 are zero.
        return tirx.reinterpret("int64", total).astype("int32")
    return tirx.reinterpret("int32", total) - tirx.const(MAGIC_BITS, "int32")


def rounded_low_half(x: Expr, scale: Expr, addend: Expr | int, less: int = 0) -> Expr:
    """int32 whose lower 16 bits are those of rne(x * scale + addend) - less, as `rounded` with form "fma" has it: MAGIC_BITS ends in zeros.

    less is even, so that halves are rounded to the same side with it and without.
    """
    return tirx.reinterpret("int32", _magic_sum(x, scale, addend, "fma", less))


def clip_rounded(x: Expr, scale: Expr, addend: Expr | int, qmin: int, qmax: int, *, form: RequantizeForm) -> Expr:
    """int32 clip(rne(x * scale + addend)), as `rounded`, of any size; x may be infinite, not NaN."""
    total = _magic_sum(x, scale, addend, form)
    if str(total.ty) == "float64":
        # Clipped while still a float64: SSE2 has min and max for those and not for 64-bit integers.
        clipped = tirx.max(tirx.min(total, tirx.const(_MAGIC64 + qmax, "float64")), tirx.const(_MAGIC64 + qmin, "float64"))
        return tirx.reinterpret("int64", clipped).astype("int32")
    bits = tirx.reinterpret("int32", total)
    clipped = tirx.max(tirx.min(bits, tirx.const(MAGIC_BITS + qmax, "int32")), tirx.const(MAGIC_BITS + qmin, "int32"))
    return clipped - tirx.const(MAGIC_BITS, "int32")


def fixed_point(x: Expr, y: Expr, s: Expr) -> Expr:
    """int64 (x * y + 2^(s-1)) >> s: x * y / 2^s, rounded half up. All int32, 2^30 <= y < 2^31, 1 <= s <= 62."""
    wide = s.astype("int64")
    half = tirx.const(1, "int64") << (wide - tirx.const(1, "int64"))
    return (x.astype("int64") * y.astype("int64") + half) >> wide


def dequantize(q: Expr, scale: Expr, zero_point: int) -> Expr:
    """uint8 or int8 to float32: float32(q - zero_point) * scale, rounded once. Feed its result to no bare addition: use `fma` for that."""
    return (q.astype("int32") - tirx.const(zero_point, "int32")).astype("float32") * scale


def _magic_sum(x: Expr, scale: Expr, addend: Expr | int, form: RequantizeForm, less: int = 0) -> Expr:
    """x * scale + addend - less + MAGIC as float32, or with _MAGIC64 as float64: rounded to the integer in its low bits."""
    if not isinstance(addend, int) and str(tirx.convert(addend).ty) == "float32":
        return fma(x, scale, addend, form=form) + tirx.const(MAGIC - less, "float32")
    if form != "f64":
        if isinstance(addend, int):
            shifted = tirx.const(MAGIC + addend, "float32")
        else:
            shifted = tirx.reinterpret("float32", addend + tirx.const(MAGIC_BITS, "int32"))
        return fma(x, scale, shifted, form=form)
    shifted = tirx.const(_MAGIC64, "float64") + (float(addend) if isinstance(addend, int) else addend.astype("float64"))
    return x.astype("float64") * scale.astype("float64") + shifted


def _sum_rounded_to_odd(a: Expr, b: Expr) -> Expr:
    """a + b in float64; where it is inexact, the neighbour whose last bit is 1."""
    total = a + b
    b_virtual = total - a
    error = (a - (total - b_virtual)) + (b - b_virtual)  # Knuth's two-sum: total + error == a + b exactly
    bits = tirx.reinterpret("int64", total)
    zero, one = tirx.const(0.0, "float64"), tirx.const(1, "int64")
    # The exact sum lies on the error's side of total; bit patterns grow away from zero.
    step = tirx.Select((error > zero) == (total > zero), one, tirx.const(-1, "int64"))
    inexact_and_even = tirx.all(error != zero, (bits & one) == tirx.const(0, "int64"))
    return tirx.reinterpret("float64", bits + tirx.Select(inexact_and_even, step, tirx.const(0, "int64")))
