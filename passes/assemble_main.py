"""AssembleMain: a new main built from an old one binding by binding, where parameters change too.

Parameters come into being as they are used, so the new main has exactly those that it needs, in order of first use.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
from tvm import relax
from tvm.ir.transform import Sequential

from tvm_rsq.model import Model
from tvm_rsq.passes.dataflow import variables_of
from tvm_rsq.passes.name_bindings import NameBindings
from tvm_rsq.passes.rewrite_bindings import substitute

Rewrite = Callable[[relax.Var, relax.Expr], "relax.Expr | None"]


class AssembleMain:
    """replaced   old variable -> its value in the new main (an expression of the new main); the inputs stand for themselves."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._main = model.module["main"]
        self._inputs = list(self._main.params)[: len(model.inputs)]
        self._builder = relax.BlockBuilder()
        self._params: dict[str, tuple[relax.Var, np.ndarray]] = {}
        self._taken = {var.name for var in self._main.params}
        self.replaced: dict[relax.Var, relax.Expr] = {var: var for var in self._inputs}

    def emit(self, value: relax.Expr) -> relax.Var:
        """Bind an expression of the new main."""
        return self._builder.emit(value)

    def operand(self, expr: relax.Expr) -> relax.Expr:
        """An old expression in terms of the new main; old parameters are taken over as they are."""
        for var in variables_of(expr):
            if var not in self.replaced:
                self.replaced[var] = self.param(var.name, self._model.params[var.name])
        return substitute(expr, self.replaced)

    def param(self, name: str, value: np.ndarray) -> relax.Var:
        """A parameter, made when first asked for. ValueError: the name stands for another array already."""
        if name not in self._params:
            self._params[name] = relax.Var(name, relax.TensorType(value.shape, str(value.dtype))), value
        var, known = self._params[name]
        if known is not value:
            raise ValueError(f"parameter {name} would have two values; ask for a free name")
        return var

    def free_name(self, name: str) -> str:
        """`name`, with ".1", ".2" and so on behind it where it is taken; it is then taken by the caller."""
        candidates = itertools.chain([name], (f"{name}.{i}" for i in itertools.count(1)))
        chosen = next(candidate for candidate in candidates if candidate not in self._taken)
        self._taken.add(chosen)
        return chosen

    def build(self, rewrite: Rewrite, output: Callable[[relax.Var], relax.Expr] | None = None) -> Model:
        """The new Model. `rewrite(var, value)` gets every old binding in order and returns what the variable becomes, None for nothing.

        output  an old result variable -> the new result; by default what the variable became
        """
        output = output or (lambda var: self.operand(var))
        results = self._result_variables()
        with self._builder.function("main", attrs=dict(self._main.attrs) if self._main.attrs else None):
            with self._builder.dataflow():
                for block in self._main.body.blocks:
                    for binding in block.bindings:
                        if (new := rewrite(binding.var, binding.value)) is not None:
                            self.replaced[binding.var] = new
                fields = [output(var) for var in results[0]]
                result = self._builder.emit_output(relax.Tuple(fields) if results[1] else fields[0])
            params = [var for var, _ in self._params.values()]
            self._builder.emit_func_output(result, params=[*self._inputs, *params])
        module = relax.transform.DeadCodeElimination(["main"])(self._builder.get())
        values = {name: value for name, (_, value) in self._params.items()}
        return Model(module=Sequential([NameBindings()])(module), params=values, inputs=self._model.inputs, name=self._model.name)

    def _result_variables(self) -> tuple[list[relax.Var], bool]:
        """The variables that main returns, and whether as a tuple."""
        body = self._main.body.body
        bound = {binding.var: binding.value for block in self._main.body.blocks for binding in block.bindings}
        while isinstance(body, relax.Var) and isinstance(bound.get(body), (relax.Var, relax.Tuple)):
            body = bound[body]
        return (list(body.fields), True) if isinstance(body, relax.Tuple) else ([body], False)
