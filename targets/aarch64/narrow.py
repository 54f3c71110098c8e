"""NEON's saturating narrowing: up to four int32 vectors to sixteen bytes by sqxtn and sqxtun, which clip to 0..255 on the way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tvm import tirx
from tvm.ir import Expr

from tvm_rsq.targets.carried import stored
from tvm_rsq.targets.generic.narrow import CLIP

_LANES = 4
_GROUP = 4  # vectors that fill a register of bytes


@dataclass(frozen=True, slots=True)
class SaturatingNarrow:
    """A `Narrow`. Vectors of other than four lanes are clipped."""

    takes_low_half: bool = True
    takes_signed: bool = True

    def groups(self, lanes: int, vecs: int) -> Sequence[tuple[int, int]]:
        if lanes % _LANES:
            return ((lanes, 1),) * vecs
        count = lanes * vecs // _LANES
        return tuple((_LANES, min(_GROUP, count - i)) for i in range(0, count, _GROUP))

    def apply(self, vectors: Sequence[Expr], lanes: int, qmin: int, qmax: int, *, low_half: bool = False, signed: bool = False) -> Expr:
        if lanes != _LANES:
            return _clipped([_sign_extended(v) for v in vectors] if low_half else vectors, lanes, qmin, qmax, signed=signed)
        kind, narrowing = ("int8", "sqxtn") if signed else ("uint8", "sqxtun")
        qmin, qmax, least, most = (qmin - 128, qmax - 128, -128, 127) if signed else (qmin, qmax, 0, 255)
        given = [*vectors, *[vectors[-1]] * (len(vectors) % 2)]  # the last vector of an odd number is narrowed twice and not stored
        pairs = [(_low_halves if low_half else _saturated)(*given[i : i + 2]) for i in range(0, len(given), 2)]
        halves = [tirx.call_llvm_pure_intrin(f"{kind}x8", f"llvm.aarch64.neon.{narrowing}.v8i8", pair) for pair in pairs]
        made = halves[0] if len(halves) == 1 else _joined(halves[0], halves[1], 8)
        size, kept = len(halves) * 8, len(vectors) * _LANES
        if kept < size:
            made = tirx.Shuffle([made], _int32s(range(kept)))
        if qmin > least:
            made = tirx.max(made, tirx.const(qmin, f"{kind}x{kept}"))
        if qmax < most:
            made = tirx.min(made, tirx.const(qmax, f"{kind}x{kept}"))
        return made


def _clipped(vectors: Sequence[Expr], lanes: int, qmin: int, qmax: int, *, signed: bool) -> Expr:
    if not signed:
        return CLIP.apply(vectors, lanes, qmin, qmax)
    return stored(CLIP.apply([v + tirx.const(128, str(v.ty.dtype)) for v in vectors], lanes, qmin, qmax), "int8")


def _saturated(a: Expr, b: Expr) -> Expr:
    """int16x8, by sqxtn."""
    low, high = (tirx.call_llvm_pure_intrin("int16x4", "llvm.aarch64.neon.sqxtn.v4i16", v) for v in (a, b))
    return _joined(low, high, 4)


def _low_halves(a: Expr, b: Expr) -> Expr:
    """int16x8, by uzp1."""
    return tirx.Shuffle([tirx.reinterpret("int16x8", v) for v in (a, b)], _int32s(range(0, 16, 2)))


def _sign_extended(value: Expr) -> Expr:
    dtype = str(value.ty.dtype)
    return value.astype(dtype.replace("int32", "int16")).astype(dtype)


def _joined(low: Expr, high: Expr, lanes: int) -> Expr:
    return tirx.Shuffle([low, high], _int32s(range(2 * lanes)))


def _int32s(values: Sequence[int]) -> list[Expr]:
    return [tirx.const(v, "int32") for v in values]
