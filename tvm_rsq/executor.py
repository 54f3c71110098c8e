"""Executor: a Relax function evaluated by torch, binding by binding, differentiable and hookable.

    main(x, w): lv = conv2d(x, w); lv1 = relu(lv)      ->      steps "lv" reads ("x", "w"), "lv1" reads ("lv",)

Float networks and quantized ones (quantize / dequantize) run alike, NCHW or NHWC, with any batch size.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from tvm import relax
from tvm.ir import Expr, GenericConst, Op

from tvm_rsq.errors import InputError, UnsupportedError
from tvm_rsq.executor_ops import operators
from tvm_rsq.model import Model
from tvm_rsq.torch_device import CPU, memory_format

Observer = Callable[[str, torch.Tensor], "torch.Tensor | None"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Step:
    """One binding.   value(name) = op(values of inputs)

    name    the variable it binds
    op      "relax.nn.conv2d" and so on; "tuple", "getitem" and "alias" for what is no call
    inputs  variables that it reads (parameters of main included), in the order of its arguments, tuples flattened
    expr    the Relax expression
    """

    name: str
    op: str
    inputs: tuple[str, ...]
    expr: Expr
    evaluate: Callable[[Sequence[Any]], Any] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BatchNormStep:
    """One batch normalisation: its own input, and the statistics that this input had in training, (C,) each."""

    name: str
    input: str
    mean: torch.Tensor
    variance: torch.Tensor
    epsilon: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerStep:
    """One convolution or dense layer.

    name     its weight parameter
    binding  variable that holds its output, before any bias
    input    variable that it reads
    axis     axis of the weight that counts output channels
    op       "relax.nn.conv2d" or "relax.matmul"
    """

    name: str
    binding: str
    input: str
    axis: int
    op: str


class Executor:
    """Evaluates Model.module["main"]. UnsupportedError: an operator that it does not know, by name.

    dtype   what stands for the IR's float32: torch.float32 or torch.float64
    device  where it is evaluated; inputs may be on any, values and outputs are there, and parameters given to `run` have to be
    """

    def __init__(self, model: Model, *, dtype: torch.dtype = torch.float32, device: torch.device = CPU) -> None:
        function = model.module["main"]
        self.model = model
        self.dtype, self.device = dtype, device
        self.params: dict[str, torch.Tensor] = {name: self._tensor(value) for name, value in model.params.items()}
        table = operators(dtype)
        bindings = [binding for block in function.body.blocks for binding in block.bindings]
        self.steps: tuple[Step, ...] = tuple(self._step(binding.var.name, binding.value, table) for binding in bindings)
        self.outputs: tuple[str, ...] = self._output_names(function.body.body)
        self.schedule = tuple(zip(self.steps, self._find_last_uses(), strict=True))  # steps, and what is not needed after each
        self.batch_norms: tuple[BatchNormStep, ...] = tuple(self._batch_norm(s) for s in self.steps if s.op == "relax.nn.batch_norm")
        self.layers: tuple[LayerStep, ...] = tuple(self._layer(s) for s in self.steps if self._is_layer(s))

    def run(
        self,
        inputs: Sequence[torch.Tensor],
        *,
        observe: Observer | None = None,
        before: Callable[[Step, list[torch.Tensor]], list[torch.Tensor]] | None = None,
        params: Mapping[str, torch.Tensor] | None = None,
    ) -> tuple[torch.Tensor, ...]:
        """The network's outputs, a tuple also of one. A value is dropped after its last use.

        inputs   one tensor per network input, of its shape but for the leading extent, the batch
        observe  called with every input's and every binding's name and value; what it returns, if not None, replaces the value
        before   called with every step and the values it reads (`step.inputs`); returns what it reads instead
        params   values that replace parameters
        """
        return self.collect(self.outputs_by_name(inputs, observe=observe, before=before, params=params))

    def outputs_by_name(
        self,
        inputs: Sequence[torch.Tensor],
        *,
        observe: Observer | None = None,
        before: Callable[[Step, list[torch.Tensor]], list[torch.Tensor]] | None = None,
        params: Mapping[str, torch.Tensor] | None = None,
    ) -> dict[str, Any]:
        """Output variable -> its value, a tuple where it is one. Otherwise as `run`."""
        values, overrides = self.named(inputs), params or {}
        if unknown := overrides.keys() - self.params.keys():
            raise InputError(f"the network has no parameter {sorted(unknown)[:3]}")
        if observe is not None:
            for name in list(values):
                values[name] = self._observed(observe, name, values[name])
        for step, dead in self.schedule:
            read = [values[name] if name in values else overrides[name] if name in overrides else self.params[name] for name in step.inputs]
            if before is not None:
                read = before(step, read)
            values[step.name] = step.evaluate(read)
            if observe is not None:
                values[step.name] = self._observed(observe, step.name, values[step.name])
            for name in dead:
                del values[name]
        values = {**self.params, **overrides, **values}
        return {name: values[name] for name in self.outputs}

    def trace(self, inputs: Sequence[torch.Tensor]) -> dict[str, torch.Tensor]:
        """Every variable's value, inputs included, parameters and tuples left out; computed without gradients."""
        found: dict[str, torch.Tensor] = {}
        with torch.no_grad():
            self.run(inputs, observe=lambda name, value: found.__setitem__(name, value))
        return found

    # ------------------------------------------------------------------------------------------------------------------------- running

    def named(self, inputs: Sequence[torch.Tensor]) -> dict[str, Any]:
        """Input -> its tensor, as the steps want it.   InputError: wrong count or shape."""
        specs = self.model.inputs
        if len(inputs) != len(specs):
            raise InputError(f"got {len(inputs)} inputs, expected {len(specs)}: {[spec.name for spec in specs]}")
        named: dict[str, Any] = {}
        for spec, value in zip(specs, inputs, strict=True):
            if value.ndim != len(spec.shape) or tuple(value.shape[1:]) != spec.shape[1:]:
                raise InputError(f"input {spec.name} has shape {list(value.shape)}, expected {['N', *spec.shape[1:]]}")
            value = value.to(self.device, self.dtype if value.is_floating_point() else None)
            named[spec.name] = value.contiguous(memory_format=memory_format(self.device)) if value.ndim == 4 else value
        return named

    def _observed(self, observe: Observer, name: str, value: Any) -> Any:
        if not isinstance(value, torch.Tensor):
            return value  # a tuple: its elements are seen as they are taken out
        replacement = observe(name, value)
        return value if replacement is None else replacement

    def collect(self, values: Mapping[str, Any]) -> tuple[torch.Tensor, ...]:
        """What `run` returns, from the values of the output variables."""
        flat: list[torch.Tensor] = []
        for name in self.outputs:
            value = values[name]
            flat.extend(value if isinstance(value, tuple) else (value,))
        return tuple(flat)

    # ---------------------------------------------------------------------------------------------------------------------- building

    def _tensor(self, value: np.ndarray) -> torch.Tensor:
        tensor = torch.from_numpy(np.array(value))  # a copy: the array may be read-only, or shared with its owner
        return tensor.to(self.device, self.dtype if tensor.is_floating_point() else None)

    def _step(self, name: str, value: Expr, table: Mapping[str, Any]) -> Step:
        if isinstance(value, relax.Call):
            op = value.op.name if isinstance(value.op, Op) else str(value.op)
            if op not in table:
                raise UnsupportedError(f"operator {op} (variable {name}) cannot be evaluated; replace it or keep it outside the network")
            try:
                function = table[op](value)
            except UnsupportedError as error:
                raise UnsupportedError(f"variable {name}: {error}") from error
            arguments = [arg for arg in value.args if _holds_tensors(arg)]
        elif isinstance(value, relax.TupleGetItem):
            op, index = "getitem", int(value.index)
            function, arguments = (lambda items: items[index]), [value.tuple_value]
        elif isinstance(value, relax.Tuple):
            op, function, arguments = "tuple", (lambda *items: items), list(value.fields)
        else:
            op, function, arguments = "alias", (lambda item: item), [value]
        inputs: list[str] = []
        readers = [self._reader(argument, inputs) for argument in arguments]

        def evaluate(read: Sequence[Any]) -> Any:
            return function(*(reader(read) for reader in readers))

        return Step(name=name, op=op, inputs=tuple(inputs), expr=value, evaluate=evaluate)

    def _reader(self, argument: Expr, inputs: list[str]) -> Callable[[Sequence[Any]], Any]:
        """How to get an argument's value from the values of `inputs`, to which its variables are appended."""
        if isinstance(argument, relax.Var):
            position = len(inputs)
            inputs.append(argument.name)
            return lambda read: read[position]
        if isinstance(argument, GenericConst):
            constant = self._tensor(argument.value.numpy())
            return lambda _read: constant
        if isinstance(argument, relax.Tuple):
            readers = [self._reader(item, inputs) for item in argument.fields]
            return lambda read: tuple(reader(read) for reader in readers)
        raise UnsupportedError(f"an argument is {argument}, expected a variable or a constant; normalise the module first")

    def _output_names(self, body: Expr) -> tuple[str, ...]:
        if isinstance(body, relax.Tuple):
            return tuple(item.name for item in body.fields)
        return (body.name,)

    def _find_last_uses(self) -> tuple[tuple[str, ...], ...]:
        """For each step, the values that no later step and no output needs."""
        keep = set(self.outputs) | self.params.keys()
        dead: list[tuple[str, ...]] = []
        for step in reversed(self.steps):
            last = tuple(dict.fromkeys(n for n in (step.name, *step.inputs) if n not in keep))
            keep.update(last)
            dead.append(last)
        return tuple(reversed(dead))

    def _batch_norm(self, step: Step) -> BatchNormStep:
        mean, variance = step.inputs[3:5]
        epsilon = float(step.expr.attrs.epsilon)
        return BatchNormStep(name=step.name, input=step.inputs[0], mean=self.params[mean], variance=self.params[variance], epsilon=epsilon)

    def _is_layer(self, step: Step) -> bool:
        return step.op in ("relax.nn.conv2d", "relax.matmul") and len(step.inputs) == 2 and step.inputs[1] in self.params

    def _layer(self, step: Step) -> LayerStep:
        axis = str(step.expr.attrs.kernel_layout).index("O") if step.op == "relax.nn.conv2d" else self.params[step.inputs[1]].ndim - 1
        return LayerStep(name=step.inputs[1], binding=step.name, input=step.inputs[0], axis=axis, op=step.op)


def _holds_tensors(argument: Expr) -> bool:
    """Whether an argument is data; shapes, numbers and tuples of numbers are read once, when the step is built."""
    if isinstance(argument, relax.Tuple):
        return all(_holds_tensors(item) for item in argument.fields)
    return isinstance(argument, (relax.Var, GenericConst)) and not isinstance(argument.ty, relax.ShapeType)
