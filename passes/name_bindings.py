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

from tvm_rsq.passes.rewrite_bindings import operator_name, substitute


@tvm.transform.module_pass(opt_level=0, name="NameBindings")
@dataclass(frozen=True)
class NameBindings:
    """No options."""

    def transform_module(self, mod: IRModule, _ctx: PassContext) -> IRModule:
        return _Name(mod["main"]).run()


class _Name:
    def __init__(self, main: relax.Function) -> None:
        self.main = main
        self.taken = {var.name for var in main.params}
        self.values: dict[relax.Var, relax.Expr] = {}
        for block in main.body.blocks:
            for binding in block.bindings:
                self.values[binding.var] = binding.value

    def run(self) -> IRModule:
        result = self._source(self.main.body.body)
        fields = self.values.get(result)
        fields = [self._source(field) for field in fields.fields] if isinstance(fields, relax.Tuple) else None
        returned = {result} if fields is None else set(fields)
        replaced: dict[relax.Var, relax.Expr] = {}
        builder = relax.BlockBuilder()
        with builder.function("main", list(self.main.params), attrs=dict(self.main.attrs) if self.main.attrs else None):
            with builder.dataflow():
                for var, value in self.values.items():
                    if isinstance(value, relax.Var):
                        replaced[var] = replaced.get(value, value)
                    elif fields is None or not var.same_as(result):
                        emit = builder.emit_output if var in returned else builder.emit
                        replaced[var] = emit(substitute(value, replaced), name_hint=self._name(value))
            builder.emit_func_output(substitute(result if fields is None else relax.Tuple(fields), replaced))
        return builder.get()

    def _source(self, expr: relax.Expr) -> relax.Expr:
        """The variable behind copies."""
        while isinstance(expr, relax.Var) and isinstance(self.values.get(expr), relax.Var):
            expr = self.values[expr]
        return expr

    def _name(self, value: relax.Expr) -> str:
        stem = operator_name(value).rpartition(".")[2] or ("item" if isinstance(value, relax.TupleGetItem) else "tensor")
        name, number = stem, 0
        while name in self.taken:
            number += 1
            name = f"{stem}_{number}"
        self.taken.add(name)
        return name
