"""Rebuild main binding by binding: the one walk that the straight-line passes of this folder share.

The caller's module is never touched. A rewrite sees each bound value after its operands were rewritten, and answers with
the expression that takes its place, or None to keep it. Bindings that end as a plain variable disappear.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from tvm import relax
from tvm.ir import IRModule, Op

Rewrite = Callable[[relax.BlockBuilder, relax.Expr], "relax.Expr | None"]


def rewrite_main(mod: IRModule, rewrite: Rewrite) -> IRModule:
    """A new module whose main holds `rewrite(builder, value)` for every bound value, dead bindings removed.

    `builder.emit` adds bindings in front; `builder.lookup_binding(var)` finds the value behind a rewritten operand.
    """
    main = mod["main"]
    builder = relax.BlockBuilder()
    replaced: dict[relax.Var, relax.Expr] = {}
    with builder.function("main", list(main.params), attrs=dict(main.attrs) if main.attrs else None):
        with builder.dataflow():
            for block in main.body.blocks:
                for binding in block.bindings:
                    value = builder.normalize(substitute(binding.value, replaced))
                    new = rewrite(builder, value)
                    new = value if new is None else new
                    replaced[binding.var] = new if isinstance(new, relax.Var) else builder.emit(new, name_hint=binding.var.name)
            result = builder.emit_output(substitute(main.body.body, replaced))
        builder.emit_func_output(result)
    clean = relax.transform.DeadCodeElimination(["main"])
    return clean(relax.transform.CanonicalizeBindings()(builder.get()))


def substitute(expr: relax.Expr, replaced: Mapping[relax.Var, relax.Expr]) -> relax.Expr:
    """`expr` (a leaf, a tuple, a tuple's item or a call of such) with variables replaced."""
    if isinstance(expr, relax.Var):
        return replaced.get(expr, expr)
    if isinstance(expr, relax.Tuple):
        return relax.Tuple([substitute(field, replaced) for field in expr.fields])
    if isinstance(expr, relax.TupleGetItem):
        return relax.TupleGetItem(substitute(expr.tuple_value, replaced), expr.index)
    if isinstance(expr, relax.Call):
        args = [substitute(arg, replaced) for arg in expr.args]
        return relax.Call(expr.op, args, expr.attrs, expr.ty_args)
    return expr


def operator_name(expr: relax.Expr | None) -> str:
    """ "relax.nn.conv2d" and the like for a call of an operator, "" for anything else."""
    return expr.op.name if isinstance(expr, relax.Call) and isinstance(expr.op, Op) else ""


def static_shape(expr: relax.Expr) -> tuple[int, ...]:
    """The extents of a tensor whose shape is known."""
    return tuple(int(extent) for extent in expr.ty.shape.values)
