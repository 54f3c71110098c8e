"""What instructions of aarch64 do, as plain vector arithmetic.

Written down from their description in the Arm Architecture Reference Manual; knows nothing of the kernels.
"""

from __future__ import annotations

from collections.abc import Callable

from tvm import tirx
from tvm.ir import Expr


def _table(*operands: Expr) -> Expr:
    """TBL: the byte of all registers together that each index counts to, 0 where it counts beyond them."""
    *registers, indices = operands
    dtype, size = indices.ty.dtype, 16 * len(registers)
    index = tirx.Var("index", str(dtype))

    def const(value: int) -> Expr:
        return tirx.const(value, str(dtype))

    def among(first: int, count: int) -> Expr:
        """The byte that the index's lowest bits count to, from `first` on."""
        if count == 1:
            return tirx.Broadcast(tirx.Shuffle([registers[first // 16]], [first % 16]), dtype.lanes)
        half = count // 2
        return tirx.Select(tirx.EQ(index & const(half), const(0)), among(first, half), among(first + half, half))

    return tirx.Let(index, indices, tirx.Select(tirx.EQ(index & const(-size), const(0)), among(0, size), const(0)))


MEANING: dict[str, Callable[..., Expr]] = {
    "llvm.aarch64.neon.tbl1": _table,
    "llvm.aarch64.neon.tbl4": _table,
}
