"""A read-only view of `main` by names, in which quantize/dequantize pairs are transparent.

    x_q = quantize(x, 0.1, 3);  x_dq = dequantize(x_q, 0.1, 3);  y = relu(x_dq)
    view.operands("y") == ("x",)      view.quantization["x"] == (scale 0.1, zero point 3)

So the structure that is analysed in the FP32 network is found again in the annotated one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import tvm
from tvm import relax
from tvm.ir import IRModule

OUTPUT = "<output>"
"""The consumer that stands for the function's result."""


@dataclass(frozen=True)
class Node:
    """One operation: its variable's name, its operator ("nn.conv2d", or "tuple_get_item", "tuple"), and its call."""

    name: str
    op: str
    expr: relax.Expr
    operands: tuple[str, ...]


class Dataflow:
    """nodes          name -> Node in execution order, quantize/dequantize left out
    users          name -> consumers' names (or OUTPUT)
    quantization   name -> (scale, zero point) arrays of the pair around it;   qmax: its largest value where that is below 255
    params         names of the parameters behind the first `num_input`
    """

    def __init__(self, mod: IRModule, function: str = "main") -> None:
        self.function: relax.Function = mod[function]
        self.inputs = self.function.params
        attrs = self.function.attrs
        self.num_input = int(attrs["num_input"]) if attrs and "num_input" in attrs else 1
        self.params = {var.name for var in list(self.inputs)[self.num_input :]}
        self.nodes: dict[str, Node] = {}
        self.quantization: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        self.qmax: dict[str, int] = {}
        self.types = {var.name: var.ty for var in self.inputs}
        self._alias: dict[str, str] = {}
        self.users: dict[str, list[str]] = {var.name: [] for var in self.inputs}
        for block in self.function.body.blocks:
            for binding in block.bindings:
                self._add(binding.var, binding.value)
        for name in self._sources(self.function.body.body):
            self.users[name].append(OUTPUT)

    def _add(self, var: relax.Var, value: relax.Expr) -> None:
        name = var.name
        self.types[name] = var.ty
        if isinstance(value, relax.Var):
            self._alias[name] = self.source(value)
            return
        op = operator_of(value)
        if op == "clip" and str(var.ty.dtype) == "uint8":  # fewer than 8 bits in the carrier, part of the quantize before it
            self._alias[name] = source = self.source(value.args[0])
            self.qmax[source] = int(value.args[2].value)
            return
        if op in ("quantize", "dequantize") and isinstance(value.args[0], relax.Var):
            self._alias[name] = source = self.source(value.args[0])
            if source not in self.quantization:
                self.quantization[source] = (constant_array(value.args[1]), constant_array(value.args[2]))
            return
        operands = tuple(self._sources(value))
        self.nodes[name] = Node(name, op, value, operands)
        self.users[name] = []
        for operand in dict.fromkeys(operands):
            self.users[operand].append(name)

    def _sources(self, expr: relax.Expr) -> list[str]:
        return [self.source(var) for var in variables_of(expr)]

    def source(self, var: relax.Var) -> str:
        """The FP32 tensor behind a variable."""
        return self._alias.get(var.name, var.name)

    def operand(self, name: str, index: int) -> str | None:
        """The source of a call's argument, None where the argument is a constant."""
        argument = self.nodes[name].expr.args[index]
        return self.source(argument) if isinstance(argument, relax.Var) else None

    def variable(self, name: str, index: int) -> str:
        """The same of an argument that is no constant. ValueError: it is one."""
        source = self.operand(name, index)
        if source is None:
            raise ValueError(f"argument {index} of {name} is a constant, expected a variable; lift constants to parameters first")
        return source

    def shape(self, name: str) -> tuple[int, ...]:
        """Static shape of a tensor."""
        return tuple(int(extent) for extent in self.types[name].shape.values)

    def sole_user(self, name: str) -> str | None:
        """The only consumer of a tensor, None if there are several or it is an output."""
        users = self.users[name]
        return users[0] if len(users) == 1 and users[0] != OUTPUT else None

    def is_param(self, name: str | None) -> bool:
        return name in self.params


def operator_of(expr: relax.Expr) -> str:
    """ "nn.conv2d" for a call of relax.nn.conv2d; "tuple", "tuple_get_item", "constant", "call" for the rest."""
    if isinstance(expr, relax.Call):
        return expr.op.name.removeprefix("relax.") if isinstance(expr.op, tvm.ir.Op) else "call"
    if isinstance(expr, relax.TupleGetItem):
        return "tuple_get_item"
    return "tuple" if isinstance(expr, relax.Tuple) else "constant"


def variables_of(expr: relax.Expr) -> list[relax.Var]:
    """The variables an expression reads, in argument order, tuples flattened."""
    if isinstance(expr, relax.Var):
        return [expr]
    if isinstance(expr, relax.TupleGetItem):
        return variables_of(expr.tuple_value)
    fields = expr.args if isinstance(expr, relax.Call) else expr.fields if isinstance(expr, relax.Tuple) else ()
    return [var for field in fields for var in variables_of(field)]


def constant_array(expr: relax.Expr) -> np.ndarray:
    """The value of a relax constant."""
    return np.asarray(expr.value.numpy())
