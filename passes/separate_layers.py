"""Give every layer its own weight, so that the weight's name names one layer.

Before  conv2d(x, w);  conv2d(y, w)                 params w
After   conv2d(x, w);  conv2d(y, w.1)               params w, w.1 (the same array)

Convolutions, dense layers and batch norms count as layers (a batch norm that cannot fold becomes a layer called by its gamma).
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import numpy as np
from tvm import relax
from tvm.ir import IRModule

from tvm_rsq.passes.rewrite_bindings import operator_name, substitute

_LAYERS = ("relax.nn.conv2d", "relax.matmul", "relax.nn.batch_norm")


def separate_layers(mod: IRModule, params: Mapping[str, np.ndarray]) -> tuple[IRModule, dict[str, np.ndarray]]:
    """The module, and its parameters with the copies at the end; both unchanged where no layer shares its weight."""
    main = mod["main"]
    copies: list[relax.Var] = []
    values = dict(params)
    named: set[relax.Var] = set()
    replaced: dict[relax.Var, relax.Expr] = {}
    bindings = [binding for block in main.body.blocks for binding in block.bindings]
    rebuilt = []
    for binding in bindings:
        value = binding.value
        if operator_name(value) in _LAYERS and isinstance(value.args[1], relax.Var):
            weight = value.args[1]
            if weight in named and weight.name in params:
                name = next(f"{weight.name}.{i}" for i in itertools.count(1) if f"{weight.name}.{i}" not in values)
                copies.append(relax.Var(name, weight.ty))
                values[name] = values[weight.name]
                value = relax.Call(value.op, [value.args[0], copies[-1], *value.args[2:]], value.attrs, value.ty_args)
            named.add(weight)
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
