"""Drop the upper bound of the relu6 behind every layer: an approximation, for cross-layer equalization.

Before  clip(add(conv2d(x, w), b), 0.0, 6.0)
After   relu(add(conv2d(x, w), b))

A factor per channel passes through relu but not through relu6, so Nagel et al. (ICCV 2019) equalize MobileNets with relu in its place.
NOT the same function: values above 6 are no longer cut off. A clip elsewhere is left alone, as the one in x * clip(x + 3, 0, 6) / 6.
"""

from __future__ import annotations

from dataclasses import dataclass

import tvm
from tvm import relax
from tvm.ir import IRModule
from tvm.ir.transform import PassContext

from tvm_rsq.passes.rewrite_bindings import operator_name, rewrite_main

_LAYERS = ("relax.nn.conv2d", "relax.matmul")


@tvm.transform.module_pass(opt_level=0, name="UnboundRelu")
@dataclass(frozen=True)
class UnboundRelu:
    """No options."""

    def transform_module(self, mod: IRModule, _ctx: PassContext) -> IRModule:
        return rewrite_main(mod, _unbound)


def _unbound(builder: relax.BlockBuilder, value: relax.Expr) -> relax.Expr | None:
    if operator_name(value) != "relax.clip" or (float(value.args[1].value), float(value.args[2].value)) != (0.0, 6.0):
        return None
    return relax.op.nn.relu(value.args[0]) if _is_layer(builder, value.args[0]) else None


def _is_layer(builder: relax.BlockBuilder, expr: relax.Expr) -> bool:
    """Whether this is a layer's output, or the sum of one and a parameter."""
    value = _bound(builder, expr)
    if value is None or operator_name(value) != "relax.add":
        return operator_name(value) in _LAYERS
    layers = [operator_name(_bound(builder, term)) in _LAYERS for term in value.args]
    others = [term for term, is_layer in zip(value.args, layers, strict=True) if not is_layer]
    return len(others) == 1 and isinstance(others[0], relax.Var) and _bound(builder, others[0]) is None


def _bound(builder: relax.BlockBuilder, expr: relax.Expr) -> relax.Expr | None:
    """The value behind a variable, None of a parameter or a constant."""
    return builder.lookup_binding(expr) if isinstance(expr, relax.Var) else None
