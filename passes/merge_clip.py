"""One form for every bound on a tensor: relu, or a single clip.

Before  minimum(maximum(x, 0), 6)    clip(clip(x, 0, inf), -inf, 6)    clip(relu(x), -inf, 6)
After   clip(x, 0.0, 6.0)

A clip at zero alone is a relu; a clip without bounds disappears. Bounds that do not overlap are left as they are.
Scalars must be constants of the IR: runs behind fold_params.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import tvm
from tvm import relax
from tvm.ir import GenericConst, IRModule
from tvm.ir.transform import PassContext

from tvm_rsq.passes.rewrite_bindings import operator_name, rewrite_main


@tvm.transform.module_pass(opt_level=0, name="MergeClip")
@dataclass(frozen=True)
class MergeClip:
    """No options."""

    def transform_module(self, mod: IRModule, _ctx: PassContext) -> IRModule:
        return rewrite_main(mod, _merge)


def _merge(builder: relax.BlockBuilder, value: relax.Expr) -> relax.Expr | None:
    bounds = _bounds(value)
    if bounds is None:
        return None
    source, low, high = bounds
    inner = _bounds(builder.lookup_binding(source)) if isinstance(source, relax.Var) else None
    if inner is not None and max(low, inner[1]) <= min(high, inner[2]):
        source, low, high = inner[0], max(low, inner[1]), min(high, inner[2])
    if (low, high) == (-math.inf, math.inf):
        return source
    if (low, high) == (0.0, math.inf):
        return relax.op.nn.relu(source)
    return relax.op.clip(source, low, high)


def _bounds(value: relax.Expr | None) -> tuple[relax.Expr, float, float] | None:
    """(x, low, high) of an expression that bounds x."""
    if value is None:
        return None
    match operator_name(value):
        case "relax.nn.relu":
            return value.args[0], 0.0, math.inf
        case "relax.clip":
            return value.args[0], float(value.args[1].value), float(value.args[2].value)
        case "relax.maximum" if _is_scalar(value.args[1]):
            return value.args[0], float(value.args[1].value.numpy()), math.inf
        case "relax.minimum" if _is_scalar(value.args[1]):
            return value.args[0], -math.inf, float(value.args[1].value.numpy())
    return None


def _is_scalar(expr: relax.Expr) -> bool:
    return isinstance(expr, GenericConst) and expr.value.numpy().size == 1
