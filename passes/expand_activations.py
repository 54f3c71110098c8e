"""Write composite activations as the arithmetic they are, so that torch and ONNX exports look alike.

Before  nn.silu(x)
After   multiply(x, sigmoid(x))
"""

from __future__ import annotations

from dataclasses import dataclass

import tvm
from tvm import relax
from tvm.ir import IRModule
from tvm.ir.transform import PassContext

from tvm_rsq.passes.rewrite_bindings import operator_name, rewrite_main


@tvm.transform.module_pass(opt_level=0, name="ExpandActivations")
@dataclass(frozen=True)
class ExpandActivations:
    """No options."""

    def transform_module(self, mod: IRModule, _ctx: PassContext) -> IRModule:
        return rewrite_main(mod, _expand)


def _expand(builder: relax.BlockBuilder, value: relax.Expr) -> relax.Expr | None:
    if operator_name(value) != "relax.nn.silu":
        return None
    return relax.op.multiply(value.args[0], builder.emit(relax.op.sigmoid(value.args[0])))
