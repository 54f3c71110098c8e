"""Move the squeeze behind a one-dimensional layer past its bias, batch norm and activation, which then follow the layer directly.

Before  add(squeeze(conv2d(x, w), 2), b: (1, C, 1))          relu(squeeze(y, 2))
After   squeeze(add(conv2d(x, w), expand_dims(b, 2)), 2)     squeeze(relu(y), 2)

So consecutive one-dimensional layers stay two-dimensional between them (SimplifyShapes drops expand_dims(squeeze(y)).
Only a squeeze of axis 2 is moved, which is what Conv1dToConv2d leaves behind.
"""

from __future__ import annotations

from dataclasses import dataclass

import tvm
from tvm import relax
from tvm.ir import IRModule
from tvm.ir.transform import PassContext

from tvm_rsq.passes.rewrite_bindings import operator_name, rewrite_main

_UNARY = frozenset(f"relax.{name}" for name in ("nn.relu", "clip", "nn.leakyrelu", "sigmoid", "tanh", "nn.gelu", "nn.gelu_tanh"))
_BINARY = frozenset(f"relax.{name}" for name in ("add", "subtract", "multiply", "divide"))


@tvm.transform.module_pass(opt_level=0, name="SinkSqueeze")
@dataclass(frozen=True)
class SinkSqueeze:
    """No options; main's attribute num_input says where the parameters begin."""

    def transform_module(self, mod: IRModule, _ctx: PassContext) -> IRModule:
        main = mod["main"]
        params = set(list(main.params)[int(main.attrs["num_input"]) :])
        return rewrite_main(mod, lambda builder, value: _sink(builder, value, params))


def _sink(builder: relax.BlockBuilder, value: relax.Expr, params: set[relax.Var]) -> relax.Expr | None:
    if isinstance(value, relax.TupleGetItem):  # of a batch norm
        norm = builder.lookup_binding(value.tuple_value)
        source = _squeezed(builder, norm.args[0]) if operator_name(norm) == "relax.nn.batch_norm" and value.index == 0 else None
        if source is None:
            return None
        moved = builder.emit(relax.Call(norm.op, [source, *norm.args[1:]], norm.attrs, norm.ty_args))
        return relax.op.squeeze(builder.emit(relax.TupleGetItem(moved, 0)), [2])
    name = operator_name(value)
    if name not in _UNARY | _BINARY:
        return None
    source = _squeezed(builder, value.args[0])
    if source is None:
        return None
    others = list(value.args[1:])
    if name in _BINARY and isinstance(others[0], relax.Var):
        other = _squeezed(builder, others[0])
        if other is None and others[0] in params and others[0].ty.ndim == 3:
            other = builder.emit(relax.op.expand_dims(others[0], 2))
        if other is None:
            return None
        others = [other]
    return relax.op.squeeze(builder.emit(relax.Call(value.op, [source, *others], value.attrs, value.ty_args)), [2])


def _squeezed(builder: relax.BlockBuilder, x: relax.Expr) -> relax.Expr | None:
    """y where x = squeeze(y, 2) of a four-dimensional y."""
    value = builder.lookup_binding(x) if isinstance(x, relax.Var) else None
    if value is None or operator_name(value) != "relax.squeeze":
        return None
    if [int(axis) for axis in value.attrs.axis] != [2] or value.args[0].ty.ndim != 4:
        return None
    return value.args[0]
