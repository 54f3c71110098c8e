"""How many trailing axes of a block are one contiguous run of memory, so that they can be fused and vectorised.

For  out[h, w, c] = a[h, w, c] + b[c]          c is (b does not move with h or w)                        -> 1
     out[h, w, c] = a[h, w, c] * 2             h, w and c together are: every access moves by one        -> 3
     out[h, w, c] = a[c, h, w]                 not even c is: `a` moves by H * W                         -> 0
An access may also stand still along the whole run (a broadcast scalar). A condition or a table index that depends on the
run forbids it: a vector of branches or gathers becomes scalar code again.
"""

from __future__ import annotations

from collections.abc import Sequence

import tvm_ffi
from tvm import tirx
from tvm.ir import Call, Expr, Op, TensorLoad
from tvm.sym import Analyzer, detect_linear_equation

_IF_THEN_ELSE = Op.get("prim.if_then_else")


def contiguous_axes(block: tirx.stmt.Stmt, axes: Sequence[tirx.Var], extents: Sequence[int]) -> int:
    """The largest n so that the last n of `axes` are a contiguous run, or stand still, in every access of the block's body.

    axes     the block's spatial variables, outermost first; extents their sizes
    """
    accesses, conditions = _accesses_and_conditions(block)
    offsets = [_flat_offset(buffer, indices) for buffer, indices in accesses]
    count = 0
    while count < len(axes):
        run = list(axes[len(axes) - count - 1 :])
        sizes = list(extents[len(axes) - count - 1 :])
        if not all(_moves_like(offset, run, sizes) for offset in offsets) or any(_mentions(c, run) for c in conditions):
            break
        count += 1
    return count


def contiguous_read_axis(block: tirx.stmt.Stmt, axes: Sequence[tirx.Var]) -> int | None:
    """The first of `axes` along which some load of the block moves by one element (0, for c, in out[c, h, w] = a[h, w, c]);
    None: there is no such axis."""
    accesses, _ = _accesses_and_conditions(block)
    for position, axis in enumerate(axes):
        for buffer, indices in accesses:
            if buffer.same_as(block.writes[0].source):
                continue
            step = detect_linear_equation(_flat_offset(buffer, indices), [axis])
            if step and isinstance(step[0], tirx.IntImm) and int(step[0]) == 1:
                return position
    return None


def _accesses_and_conditions(block: tirx.stmt.Stmt) -> tuple[list[tuple[tirx.Buffer, list[Expr]]], list[Expr]]:
    accesses: list[tuple[tirx.Buffer, list[Expr]]] = []
    conditions: list[Expr] = []

    def visit(node: object) -> None:
        if isinstance(node, TensorLoad):
            accesses.append((node.source, list(node.indices)))
        elif isinstance(node, tirx.BufferStore):
            accesses.append((node.buffer, list(node.indices)))
        elif isinstance(node, Call) and node.op.same_as(_IF_THEN_ELSE):
            conditions.append(node.args[0])

    tvm_ffi.structural_walk(block.body, visit)
    return accesses, conditions


def _flat_offset(buffer: tirx.Buffer, indices: Sequence[Expr]) -> Expr:
    offset: Expr = tirx.const(0, indices[0].ty.dtype) if indices else tirx.const(0, "int32")
    for index, extent in zip(indices, buffer.shape, strict=True):
        offset = offset * int(extent) + index
    return offset


def _moves_like(offset: Expr, run: list[tirx.Var], extents: list[int]) -> bool:
    """Whether `offset` stands still along the run, or moves by one element per step of the fused run."""
    coefficients = detect_linear_equation(offset, run)
    if not coefficients:
        return False
    steps = [Analyzer().simplify(c) for c in coefficients[: len(run)]]
    if not all(isinstance(step, tirx.IntImm) for step in steps):
        return False
    values = [int(step) for step in steps]
    expected = 1
    dense = True
    for value, extent in zip(reversed(values), reversed(extents), strict=True):
        dense = dense and (value == expected or extent == 1)
        expected *= extent
    still = all(value == 0 or extent == 1 for value, extent in zip(values, extents, strict=True))
    return dense or still


def _mentions(expr: Expr, run: list[tirx.Var]) -> bool:
    found: list[tirx.Var] = []

    def visit(node: object) -> None:
        if isinstance(node, tirx.Var) and any(node.same_as(var) for var in run):
            found.append(node)

    tvm_ffi.structural_walk(expr, visit)
    return bool(found)
