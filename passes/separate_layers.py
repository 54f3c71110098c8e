"""Give every operation its own parameters, so that the weight's name names one layer, and its bias can be quantized for it.

Before  add(conv2d(x, w), b);  add(conv2d(y, w), b)                 params w, b
After   add(conv2d(x, w), b);  add(conv2d(y, w.1), b.1)             params w, b, w.1, b.1 (the same arrays)

The first reader keeps the name. A batch norm's statistics count too: one that cannot fold becomes a layer called by its gamma.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import numpy as np
from tvm import relax
from tvm.ir import IRModule

from tvm_rsq.passes.rewrite_bindings import substitute


def separate_layers(mod: IRModule, params: Mapping[str, np.ndarray]) -> tuple[IRModule, dict[str, np.ndarray]]:
    """The module, and its parameters with the copies at the end; both unchanged where nothing is shared."""
    main = mod["main"]
    copies: list[relax.Var] = []
    values = dict(params)
    named: set[relax.Var] = set()

    def own(argument: relax.Expr) -> relax.Expr:
        if not (isinstance(argument, relax.Var) and argument.name in params):
            return argument
        if argument not in named:
            named.add(argument)
            return argument
        name = next(f"{argument.name}.{i}" for i in itertools.count(1) if f"{argument.name}.{i}" not in values)
        copies.append(relax.Var(name, argument.ty))
        values[name] = values[argument.name]
        return copies[-1]

    replaced: dict[relax.Var, relax.Expr] = {}
    bindings = [binding for block in main.body.blocks for binding in block.bindings]
    rebuilt = []
    for binding in bindings:
        value = binding.value
        if isinstance(value, relax.Call):
            value = relax.Call(value.op, [own(argument) for argument in value.args], value.attrs, value.ty_args)
        rebuilt.append((binding.var, value))
    if not copies:
        return mod, dict(params)
    builder = relax.BlockBuilder()
    with builder.function("main", [*main.params, *copies], attrs=dict(main.attrs)):
        with builder.dataflow():
            for var, value in rebuilt:
                value = substitute(value, replaced)
                replaced[var] = value if isinstance(value, relax.Var) else builder.emit(value, name_hint=var.name)
            output = builder.emit_output(substitute(main.body.body, replaced))
        builder.emit_func_output(output)
    return relax.transform.CanonicalizeBindings()(builder.get()), values
