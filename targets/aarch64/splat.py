"""One value of a vector in four lanes, which multiplications take as their operand by element."""

from __future__ import annotations

from tvm import tirx
from tvm.ir import Expr


def splat(values: Expr, index: int, count: int) -> Expr:
    """The index-th of `count` values, four times."""
    if count == 1:
        return tirx.Broadcast(values, 4)
    return tirx.Shuffle([values] * -(-4 // count), [tirx.const(index, "int32")] * 4)  # no longer than all that goes in
