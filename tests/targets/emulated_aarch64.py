"""What instructions of aarch64 do, as plain vector arithmetic.

Written down from their description in the Arm Architecture Reference Manual; knows nothing of the kernels.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from tvm import tirx
from tvm.ir import Expr


def _table(*operands: Expr) -> Expr:
    """TBL: the byte of all registers together that each index counts to, 0 where it counts beyond them."""
    *registers, indices = operands
    dtype = str(indices.ty.dtype)
    index, found = tirx.Var("index", dtype), tirx.const(0, f"int8x{indices.ty.dtype.lanes}")
    for i, register in enumerate(registers):
        found = tirx.Select(_within(index - tirx.const(16 * i, dtype), 16), _byte_of(register, index), found)
    return tirx.Let(index, indices, found)


def _byte_of(register: Expr, indices: Expr) -> Expr:
    """The byte that the lowest four bits of each index count to, of those below 128."""
    lanes = indices.ty.dtype.lanes
    sixteen = indices if lanes == 16 else tirx.Shuffle([indices, indices], list(range(16)))
    found = tirx.call_llvm_pure_intrin("int8x16", "llvm.x86.ssse3.pshuf.b.128", register, sixteen)
    return found if lanes == 16 else tirx.Shuffle([found], list(range(lanes)))


def _within(indices: Expr, size: int) -> Expr:
    """Which bytes are below `size`, 16 or 64, whatever their sign bit means."""
    dtype = str(indices.ty.dtype)
    upper = 256 - size if dtype.startswith("uint8") else -size
    return tirx.EQ(indices & tirx.const(upper, dtype), tirx.const(0, dtype))


def _table_or(fallback: Expr, *operands: Expr) -> Expr:
    """TBX: as TBL, the fallback's byte where the index counts beyond the registers."""
    indices, size = operands[-1], 16 * (len(operands) - 1)
    return tirx.Select(tirx.Not(_within(indices, size)), fallback, _table(*operands))


def _every(value: Expr, step: int, first: int) -> Expr:
    return tirx.Shuffle([value], list(range(first, value.ty.dtype.lanes, step)))


def _wide(value: Expr, dtype: str) -> Expr:
    return value.astype(f"{dtype}x{value.ty.dtype.lanes}")


def _sum(values: list[Expr]) -> Expr:
    return sum(values[1:], values[0])


def _dot(acc: Expr, a: Expr, b: Expr) -> Expr:
    """SDOT: each int32 gains four products of neighbouring bytes."""
    product = _wide(a, "int32") * _wide(b, "int32")
    return acc + _sum([_every(product, 4, first) for first in range(4)])


def _matrix_product(acc: Expr, a: Expr, b: Expr) -> Expr:
    """SMMLA: 2x2 int32 gains (2x8) times the transposed (2x8), each row by row."""
    rows = [tirx.Shuffle([a], [*range(8 * i, 8 * i + 8)] * 2) for i in (0, 1)]  # row i beside itself: against both rows of b
    products = [_wide(row, "int32") * _wide(b, "int32") for row in rows]
    sums = [_sum([_every(product, 8, first) for first in range(8)]) for product in products]
    return acc + tirx.Shuffle(sums, [0, 1, 2, 3])


def _product(a: Expr, b: Expr) -> Expr:
    """SMULL: products of twice the width."""
    wide = {"int8": "int16", "int16": "int32"}[str(a.ty.dtype).partition("x")[0]]
    return _wide(a, wide) * _wide(b, wide)


def _pairs(value: Expr) -> Expr:
    """SADDLP: neighbours added, of twice the width."""
    wide = _wide(value, {"int8": "int16", "int16": "int32"}[str(value.ty.dtype).partition("x")[0]])
    return _every(wide, 2, 0) + _every(wide, 2, 1)


def _pairwise(a: Expr, b: Expr) -> Expr:
    """ADDP: neighbours added, first those of a, then those of b."""
    lanes = a.ty.dtype.lanes
    even, odd = (tirx.Shuffle([a, b], list(range(first, 2 * lanes, 2))) for first in (0, 1))
    return even + odd


def _narrowed(value: Expr, *, signed: bool) -> Expr:
    """SQXTN, SQXTUN: clipped to what half the width holds."""
    bits = {"int32": 16, "int16": 8}[str(value.ty.dtype).partition("x")[0]]
    least, most = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    low, high = (tirx.const(bound, str(value.ty.dtype)) for bound in (least, most))
    return tirx.max(tirx.min(value, high), low).astype(f"{'int' if signed else 'uint'}{bits}x{value.ty.dtype.lanes}")


MEANING: dict[str, Callable[..., Expr]] = {
    "llvm.aarch64.neon.tbl1": _table,
    "llvm.aarch64.neon.tbl4": _table,
    "llvm.aarch64.neon.tbx4": _table_or,
    "llvm.aarch64.neon.sdot": _dot,
    "llvm.aarch64.neon.smmla": _matrix_product,
    "llvm.aarch64.neon.smull": _product,
    "llvm.aarch64.neon.saddlp": _pairs,
    "llvm.aarch64.neon.addp": _pairwise,
    "llvm.aarch64.neon.sqxtn": partial(_narrowed, signed=True),
    "llvm.aarch64.neon.sqxtun": partial(_narrowed, signed=False),
}
