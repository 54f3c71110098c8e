"""Evaluate every expression that depends on parameters only, so that a layer's operands are parameters again.

Before  main(x, w: (O, I), b: (O,)):        params w, b, s
            t = permute_dims(w);  matmul(x, t);  add(., multiply(b, s))
After   main(x, w: (I, O), b: (O,)):        params w = w.T, b = b * s
            matmul(x, w);  add(., b)

A folded value is called by its main source: the parameter with the most elements, the first of those. A source that is used
in several forms keeps its name for the one used as stored, or else the first; the others get ".1", ".2". Parameters that
nothing uses are dropped; constants of more than one element become parameters. What remains is in order of first use.
Scalars (one element, used by an element-wise operator) become constants of the IR.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from tvm import relax
from tvm.ir import GenericConst, IRModule

from tvm_rsq.passes.evaluate_operator import evaluate
from tvm_rsq.passes.rewrite_bindings import operator_name, static_shape, substitute

ELEMENTWISE = frozenset(
    f"relax.{name}" for name in ("add", "subtract", "multiply", "divide", "power", "maximum", "minimum")
)  # fmt: skip
_TENSOR = (relax.Var, GenericConst, relax.Tuple, relax.TupleGetItem)
_LAYERS = ("relax.nn.conv2d", "relax.nn.conv1d", "relax.matmul")


@dataclass(frozen=True, eq=False)
class _Known:
    """A value known now: of a tensor, or of a tuple of them. `stored`: it is the parameter `source` itself."""

    value: np.ndarray | tuple[np.ndarray, ...]
    source: str
    stored: bool = False


def fold_params(mod: IRModule, params: Mapping[str, np.ndarray]) -> tuple[IRModule, dict[str, np.ndarray]]:
    """The module with its parameters folded, and their values, in the order of main's parameters behind the inputs.

    params: name -> array for every parameter of main behind the inputs. UnsupportedError: an operator on parameters
    that cannot be evaluated.
    """
    return _Fold(mod, params).run()


class _Fold:
    def __init__(self, mod: IRModule, params: Mapping[str, np.ndarray]) -> None:
        self.main = mod["main"]
        self.bindings = [binding for block in self.main.body.blocks for binding in block.bindings]
        self.inputs = [var for var in self.main.params if var.name not in params]
        self.known: dict[relax.Var, _Known] = {
            var: _Known(params[var.name], var.name, stored=True) for var in self.main.params if var.name in params
        }
        self.vars: dict[relax.Var, relax.Var] = {}  # known variable -> the new parameter
        self.folded: dict[str, np.ndarray] = {}
        self.new_params: list[relax.Var] = []

    def run(self) -> tuple[IRModule, dict[str, np.ndarray]]:
        live = []
        for binding in self.bindings:
            known = self._evaluate(binding.value)
            if known is None:
                live.append(binding)
            else:
                self.known[binding.var] = known
        self.reserved = self._names_used_as_stored(live)

        builder = relax.BlockBuilder()
        replaced: dict[relax.Var, relax.Expr] = {}
        rebuilt: list[tuple[relax.Var, relax.Expr]] = []
        for binding in live:
            rebuilt.append((binding.var, self._materialise_operands(binding.value)))
        result = self._materialise(self.main.body.body)
        attrs = dict(self.main.attrs) if self.main.attrs else {}
        attrs.pop("params", None)  # the importers' copy of the arrays
        attrs["num_input"] = len(self.inputs)
        with builder.function("main", self.inputs + self.new_params, attrs=attrs):
            with builder.dataflow():
                for var, value in rebuilt:
                    value = substitute(value, replaced)
                    replaced[var] = value if isinstance(value, relax.Var) else builder.emit(value, name_hint=var.name)
                output = builder.emit_output(substitute(result, replaced))
            builder.emit_func_output(output)
        return relax.transform.CanonicalizeBindings()(builder.get()), self.folded

    def _evaluate(self, value: relax.Expr) -> _Known | None:
        """The value of a bound expression if it depends on parameters and constants only."""
        if isinstance(value, relax.Var):
            return self.known.get(value)
        if isinstance(value, GenericConst):
            return _constant(value)
        if isinstance(value, relax.Tuple):
            fields = [known for field in value.fields if (known := self._evaluate(field)) is not None]
            if not fields or len(fields) < len(value.fields):
                return None
            return _Known(tuple(np.asarray(field.value) for field in fields), _main_source(fields))
        if isinstance(value, relax.TupleGetItem):
            known = self._evaluate(value.tuple_value)
            return None if known is None else _Known(known.value[value.index], known.source)
        if isinstance(value, relax.Call):
            operands = [self._evaluate(arg) if isinstance(arg, _TENSOR) else None for arg in value.args]
            tensors = [known for known in operands if known is not None]
            if not tensors or len(tensors) < sum(isinstance(arg, _TENSOR) for arg in value.args):
                return None
            arrays = [None if known is None else known.value for known in operands]
            return _Known(evaluate(value, arrays), _main_source(tensors))
        return None

    def _names_used_as_stored(self, live: list[relax.Binding]) -> set[str]:
        uses = [var for binding in live for var in _variables(binding.value)]
        return {self.known[var].source for var in uses if var in self.known and self.known[var].stored}

    def _materialise_operands(self, value: relax.Expr) -> relax.Expr:
        name = operator_name(value)
        if name in ELEMENTWISE:
            return relax.Call(value.op, [self._elementwise_operand(arg, value) for arg in value.args], value.attrs, value.ty_args)
        if isinstance(value, relax.Call):
            return relax.Call(value.op, [self._materialise(arg) for arg in value.args], value.attrs, value.ty_args)
        return self._materialise(value)

    def _elementwise_operand(self, arg: relax.Expr, call: relax.Call) -> relax.Expr:
        known = self._evaluate(arg)
        scalar = None if known is None else np.asarray(known.value)
        if scalar is None or scalar.size != 1 or self._is_bias(scalar, call):
            return self._materialise(arg)
        if scalar.ndim > max(other.ty.ndim for other in call.args if not other.same_as(arg)):
            return self._materialise(arg)  # it also adds an axis, so it is more than a scalar
        return relax.const(scalar.reshape(()), str(scalar.dtype))

    def _is_bias(self, value: np.ndarray, call: relax.Call) -> bool:
        """One element added to a layer with one output channel is that layer's bias, which stays a parameter."""
        producers = {binding.var: binding.value for binding in self.bindings}
        layer = next((producers[arg] for arg in call.args if arg in producers and operator_name(producers[arg]) in _LAYERS), None)
        if layer is None or value.ndim == 0:
            return False
        channel_axis = layer.ty.ndim - 1 if operator_name(layer) == "relax.matmul" else 1
        return static_shape(layer)[channel_axis] == 1

    def _materialise(self, expr: relax.Expr) -> relax.Expr:
        if isinstance(expr, relax.Var):
            return self._parameter(expr, self.known[expr]) if expr in self.known else expr
        if isinstance(expr, GenericConst) and expr.value.numpy().size > 1:
            return self._parameter(None, _constant(expr))
        if isinstance(expr, relax.Tuple):
            return relax.Tuple([self._materialise(field) for field in expr.fields])
        if isinstance(expr, relax.TupleGetItem):
            return relax.TupleGetItem(self._materialise(expr.tuple_value), expr.index)
        return expr

    def _parameter(self, var: relax.Var | None, known: _Known) -> relax.Expr:
        if var in self.vars:
            return self.vars[var]
        value = np.asarray(known.value, order="C")
        name = known.source
        if (name in self.reserved and not known.stored) or name in self.folded:
            name = next(
                f"{known.source}.{i}" for i in itertools.count(1) if f"{known.source}.{i}" not in self.reserved | self.folded.keys()
            )
        new = relax.Var(name, relax.TensorType(value.shape, str(value.dtype)))
        self.folded[name] = value
        self.new_params.append(new)
        if var is not None:
            self.vars[var] = new
        return new


def _constant(expr: relax.Expr) -> _Known:
    return _Known(expr.value.numpy(), "constant")


def _main_source(known: list[_Known]) -> str:
    """The source with the most elements; a constant only where there is no parameter."""
    named = [entry for entry in known if entry.source != "constant"] or known
    return max(named, key=lambda entry: sum(a.size for a in entry.value) if isinstance(entry.value, tuple) else entry.value.size).source


def _variables(expr: relax.Expr) -> Iterator[relax.Var]:
    if isinstance(expr, relax.Var):
        yield expr
    elif isinstance(expr, relax.TupleGetItem):
        yield from _variables(expr.tuple_value)
    elif isinstance(expr, relax.Call | relax.Tuple):
        for field in expr.args if isinstance(expr, relax.Call) else expr.fields:
            yield from _variables(field)
