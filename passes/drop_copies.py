"""Drop plain copies, also those in front of the result, so that a returned tensor keeps the name it was computed under.

Before  y = relu(x); gv = y; return gv
After   y = relu(x); return y
"""

from __future__ import annotations

from collections.abc import Callable

from tvm import relax
from tvm.ir import IRModule

from tvm_rsq.passes.rewrite_bindings import substitute

Naming = Callable[[relax.Var, relax.Expr], str]


def drop_copies(mod: IRModule) -> IRModule:
    """A new module with main's copies gone and every name kept; other functions stay as they are."""
    functions = dict(mod.functions_items())
    main = mod.get_global_var("main")
    return IRModule({**functions, main: without_copies(mod["main"], lambda var, _value: var.name)}, attrs=mod.attrs)


def without_copies(function: relax.Function, naming: Naming) -> relax.Function:
    """`function` without copies; `naming(var, value)` gives every remaining binding its name. The result: a variable or a tuple of them."""
    values = {binding.var: binding.value for block in function.body.blocks for binding in block.bindings}

    def source(expr: relax.Expr) -> relax.Expr:
        while isinstance(expr, relax.Var) and isinstance(values.get(expr), relax.Var):
            expr = values[expr]
        return expr

    result = source(function.body.body)
    listed = values.get(result) if isinstance(result, relax.Var) else result
    fields = [source(field) for field in listed.fields] if isinstance(listed, relax.Tuple) else None
    returned = {result} if fields is None else set(fields)
    replaced: dict[relax.Var, relax.Expr] = {}
    builder = relax.BlockBuilder()
    with builder.function("main", list(function.params), attrs=dict(function.attrs) if function.attrs else None):
        with builder.dataflow():
            for var, value in values.items():
                if isinstance(value, relax.Var):
                    replaced[var] = replaced.get(value, value)
                elif fields is None or not var.same_as(result):
                    emit = builder.emit_output if var in returned else builder.emit
                    replaced[var] = emit(substitute(value, replaced), name_hint=naming(var, value))
        builder.emit_func_output(substitute(result if fields is None else relax.Tuple(fields), replaced))
    return builder.get()["main"]
