"""Give every tensor of main a unique, readable name: its operator and a number, in order of execution.

Before  lv = conv2d(x, w); lv1 = relu(lv); gv = relu(lv1); return gv
After   conv2d = conv2d(x, w); relu = relu(conv2d); relu_1 = relu(relu); return relu_1

Inputs and parameters keep their names, and a tensor never takes one of theirs. Plain copies (gv = lv) disappear, also in front
of the result, which is a variable or a tuple of variables. Runs last: every other pass may invent variables.
"""

from __future__ import annotations

from dataclasses import dataclass

import tvm
from tvm import relax
from tvm.ir import IRModule
from tvm.ir.transform import PassContext

from tvm_rsq.passes.drop_copies import without_copies
from tvm_rsq.passes.rewrite_bindings import operator_name


@tvm.transform.module_pass(opt_level=0, name="NameBindings")
@dataclass(frozen=True)
class NameBindings:
    """No options."""

    def transform_module(self, mod: IRModule, _ctx: PassContext) -> IRModule:
        taken = {var.name for var in mod["main"].params}

        def numbered(_var: relax.Var, value: relax.Expr) -> str:
            stem = operator_name(value).rpartition(".")[2] or ("item" if isinstance(value, relax.TupleGetItem) else "tensor")
            name, number = stem, 0
            while name in taken:
                number += 1
                name = f"{stem}_{number}"
            taken.add(name)
            return name

        return IRModule({"main": without_copies(mod["main"], numbered)})
