"""Fold every batch normalisation into a neighbouring layer, or turn it into a layer of its own.

    s = gamma / sqrt(variance + epsilon)        t = beta - mean * s         batch_norm(x) = x * s + t

behind a layer      batch_norm(conv2d(x, w) + b)        ->  conv2d(x, w * s) + (b * s + t)
before a layer      conv2d(batch_norm(x), w) + b        ->  conv2d(x, w * s) + (b + sum(w * t))
elsewhere           batch_norm(x)                       ->  conv2d(x, s, groups=C) + t      called by gamma
                    batch_norm(x), x not 4-D            ->  x * s + t

Behind: bias additions and squeeze / expand_dims may lie between, and nothing else may read the layer's output. Before: only without
padding, which would have to pad with -t / s; a reshape to 2-D may lie between the normalisation and a dense layer. A layer whose weight
another layer shares is left alone. Arithmetic is float64 until the end.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from tvm import relax
from tvm.ir import GenericConst

from tvm_rsq.model import Model
from tvm_rsq.passes.assemble_main import AssembleMain
from tvm_rsq.passes.dataflow import variables_of
from tvm_rsq.passes.rewrite_bindings import operator_name, static_shape


def fold_batch_norm(model: Model) -> Model:
    """The network without batch_norm, the same function to float32 rounding. Expects the canonical NCHW form; `model` is left alone."""
    return _Fold(model).run()


@dataclass(slots=True, eq=False)
class _Layer:
    """A convolution or dense layer that is being changed. weight and bias float64; bias (C,) or None."""

    call: relax.Call
    weight: np.ndarray
    bias: np.ndarray | None
    bias_name: str | None

    @property
    def channel_axis(self) -> int:
        """Axis of the weight that counts output channels."""
        return 0 if operator_name(self.call) == "relax.nn.conv2d" else 1

    @property
    def channels(self) -> int:
        return self.weight.shape[self.channel_axis]

    def scale_output(self, scale: np.ndarray, shift: np.ndarray) -> None:
        self.weight = self.weight * scale.reshape([-1 if axis == self.channel_axis else 1 for axis in range(self.weight.ndim)])
        self.bias = shift if self.bias is None else self.bias * scale + shift

    def scale_input(self, scale: np.ndarray, shift: np.ndarray) -> None:
        """scale and shift: one per input channel."""
        if operator_name(self.call) == "relax.matmul":
            constant = shift @ self.weight
            self.weight = self.weight * scale[:, None]
        else:
            groups = int(self.call.attrs.groups)
            outputs_per_group = self.channels // groups
            per_output = [np.repeat(v.reshape(groups, -1), outputs_per_group, axis=0)[:, :, None, None] for v in (scale, shift)]
            constant = (self.weight * per_output[1]).sum(axis=(1, 2, 3))
            self.weight = self.weight * per_output[0]
        self.bias = constant if self.bias is None else self.bias + constant


class _Fold:
    def __init__(self, model: Model) -> None:
        self.model = model
        self.values: dict[relax.Var, relax.Expr] = {b.var: b.value for block in model.module["main"].body.blocks for b in block.bindings}
        self.users: dict[relax.Var, list[relax.Var | None]] = {}
        for var, value in self.values.items():
            for read in variables_of(value):
                self.users.setdefault(read, []).append(var)
        for read in variables_of(model.module["main"].body.body):
            self.users.setdefault(read, []).append(None)  # the caller
        self.layers: dict[relax.Var, _Layer] = {}
        self.gone: dict[relax.Var, relax.Var] = {}  # folded away: what the variable is replaced by
        self.standalone: dict[relax.Var, tuple[np.ndarray, np.ndarray]] = {}
        self.assembly = AssembleMain(model)

    def run(self) -> Model:
        for var, value in self.values.items():
            if operator_name(value) == "relax.nn.batch_norm":
                self._decide(var, value)
        return self.assembly.build(self._rewrite)

    # ------------------------------------------------------------------------------------------------------------------------ analysis

    def _decide(self, var: relax.Var, call: relax.Call) -> None:
        results = [user for user in self.users.get(var, []) if user is not None and self.values[user].index == 0]
        scale, shift = self._affine(call)
        if (layer := self._layer_behind(var, call.args[0])) is not None:
            layer.scale_output(scale, shift)
        elif (layer := self._layer_before(results, len(scale))) is not None:
            repeats = layer.weight.shape[0] // len(scale) if operator_name(layer.call) == "relax.matmul" else 1
            layer.scale_input(np.repeat(scale, repeats), np.repeat(shift, repeats))
        else:
            self.standalone.update({result: (scale, shift) for result in results})
            return
        self.gone.update({result: call.args[0] for result in results})

    def _affine(self, call: relax.Call) -> tuple[np.ndarray, np.ndarray]:
        gamma, beta, mean, variance = (self._array(arg).astype(np.float64) for arg in call.args[1:])
        gamma = gamma if call.attrs.scale else np.ones_like(gamma)
        beta = beta if call.attrs.center else np.zeros_like(beta)
        spread = variance + float(call.attrs.epsilon)
        # a channel that never varied, without an epsilon: its input is its mean, so it is the constant beta
        scale = np.divide(gamma, np.sqrt(np.maximum(spread, 0)), out=np.zeros_like(gamma), where=spread > 0)
        return scale, beta - mean * scale

    def _array(self, expr: relax.Expr) -> np.ndarray:
        return expr.value.numpy() if isinstance(expr, GenericConst) else self.model.params[expr.name]

    def _is_param(self, expr: relax.Expr) -> bool:
        return isinstance(expr, relax.Var) and expr not in self.values and expr.name in self.model.params

    def _layer_behind(self, user: relax.Var, var: relax.Var) -> _Layer | None:
        """The layer that computes `var` for `user` alone, the bias additions between absorbed; None: there is none."""
        additions: list[tuple[relax.Var, relax.Var, np.ndarray, relax.Expr]] = []
        while self.users.get(var) == [user]:
            value = self.values.get(var)
            user = var
            if var in self.gone:
                # a normalisation that was folded: its batch_norm is the only reader of what it replaced
                item = value
                var = self.gone[var]
                user = item.tuple_value if isinstance(item, relax.TupleGetItem) else user
            elif self._can_be_layer(value) and _channels_first(value):
                layer = self._layer(var)
                for addition, data, bias, source in additions:
                    if addition in self.gone:
                        continue  # the layer took it when it was first looked at
                    layer.bias = bias if layer.bias is None else layer.bias + bias
                    layer.bias_name = layer.bias_name or self._own_name(source)
                    self.gone[addition] = data
                return layer
            elif (bias := self._bias(value)) is not None:
                additions.append((var, *bias))
                var = bias[0]
            elif operator_name(value) in ("relax.squeeze", "relax.expand_dims") and _keeps_channels(value):
                var = value.args[0]
            else:
                return None
        return None

    def _layer_before(self, results: list[relax.Var], channels: int) -> _Layer | None:
        """The layer that alone reads the one variable in `results`, if folding into it is exact."""
        if len(results) != 1 or len(self.users.get(results[0], [])) != 1:
            return None
        data, user = results[0], self.users[results[0]][0]
        value = self.values.get(user)
        rank = len(static_shape(data))
        if operator_name(value) in ("relax.reshape", "relax.flatten") and len(static_shape(user)) == 2 and len(self.users.get(user, [])) == 1:
            if static_shape(user)[0] != static_shape(data)[0]:
                return None
            data, user = user, self.users[user][0]
            value = self.values.get(user)
        elif rank != 2 and operator_name(value) == "relax.matmul":
            return None
        if not self._can_be_layer(value) or value.args[0] != data:
            return None
        if operator_name(value) == "relax.nn.conv2d" and any(int(p) for p in value.attrs.padding):
            return None
        return self._layer(user)

    def _can_be_layer(self, value: relax.Expr | None) -> bool:
        if operator_name(value) not in ("relax.nn.conv2d", "relax.matmul") or not self._is_param(value.args[1]):
            return False
        shared = len(self.users[value.args[1]]) > 1
        return not shared and (operator_name(value) == "relax.nn.conv2d" or value.args[1].ty.ndim == 2)

    def _layer(self, var: relax.Var) -> _Layer:
        if var not in self.layers:
            call = self.values[var]
            layer = self.layers[var] = _Layer(call, self._array(call.args[1]).astype(np.float64), None, None)
            users = self.users.get(var, [])
            bias = self._bias(self.values.get(users[0])) if len(users) == 1 else None
            if bias is not None and self._is_param(bias[2]):
                self.gone[users[0]], layer.bias, layer.bias_name = var, bias[1], self._own_name(bias[2])
        return self.layers[var]

    def _bias(self, value: relax.Expr | None) -> tuple[relax.Var, np.ndarray, relax.Expr] | None:
        """(data, float64 (C,), its expression) of an addition of one number per channel (axis 1)."""
        if operator_name(value) != "relax.add":
            return None
        for data, addend in (value.args, reversed(value.args)):
            constant = isinstance(addend, GenericConst) or self._is_param(addend)
            if not constant or not isinstance(data, relax.Var) or self._is_param(data):
                continue
            array = self._array(addend)
            shape = static_shape(data)
            aligned = (1,) * (len(shape) - array.ndim) + array.shape
            if len(aligned) == len(shape) > 1 and all(extent == 1 for axis, extent in enumerate(aligned) if axis != 1):
                return data, np.broadcast_to(array.astype(np.float64).reshape(-1), shape[1:2]), addend
        return None

    def _own_name(self, expr: relax.Expr) -> str | None:
        """A parameter's name if nothing else uses the parameter."""
        return expr.name if self._is_param(expr) and len(self.users[expr]) == 1 else None

    # ----------------------------------------------------------------------------------------------------------------------- rewriting

    def _rewrite(self, var: relax.Var, value: relax.Expr) -> relax.Expr | None:
        assembly = self.assembly
        if var in self.gone:
            return assembly.replaced[self.gone[var]]
        if var in self.layers:
            return self._emit_layer(self.layers[var])
        if var in self.standalone:
            return self._emit_standalone(self.values[value.tuple_value], *self.standalone[var])
        if operator_name(value) == "relax.nn.batch_norm":
            return None
        return assembly.emit(assembly.operand(value))

    def _emit_layer(self, layer: _Layer) -> relax.Expr:
        data, weight = layer.call.args
        name = weight.name
        new_weight = self.assembly.param(name, layer.weight.astype(np.float32))
        out = self.assembly.emit(relax.Call(layer.call.op, [self.assembly.operand(data), new_weight], layer.call.attrs))
        if layer.bias is None:
            return out
        shape = (1, -1, 1, 1) if operator_name(layer.call) == "relax.nn.conv2d" else (-1,)
        bias_name = layer.bias_name or self.assembly.free_name(_bias_name(name))
        bias = self.assembly.param(bias_name, layer.bias.astype(np.float32).reshape(shape))
        return self.assembly.emit(relax.op.add(out, bias))

    def _emit_standalone(self, call: relax.Call, scale: np.ndarray, shift: np.ndarray) -> relax.Expr:
        emit, data = self.assembly.emit, self.assembly.operand(call.args[0])
        gamma, beta = call.args[1:3]
        name = self._own_name(gamma) or self.assembly.free_name(gamma.name if self._is_param(gamma) else "batch_norm.weight")
        bias_name = self._own_name(beta) or self.assembly.free_name(_bias_name(name))
        rank = call.args[0].ty.ndim
        along = (-1,) if rank == 2 else (1, -1) + (1,) * (rank - 2)
        bias = self.assembly.param(bias_name, shift.astype(np.float32).reshape(along))
        if rank == 4:
            weight = self.assembly.param(name, scale.astype(np.float32).reshape(-1, 1, 1, 1))
            scaled = emit(relax.op.nn.conv2d(data, weight, groups=len(scale)))
        else:
            scaled = emit(relax.op.multiply(data, self.assembly.param(name, scale.astype(np.float32).reshape(along))))
        return emit(relax.op.add(scaled, bias))


def _bias_name(weight_name: str) -> str:
    return weight_name.removesuffix("weight") + "bias" if weight_name.endswith("weight") else f"{weight_name}.bias"


def _channels_first(call: relax.Call) -> bool:
    """Whether axis 1 of a layer's output counts its channels."""
    return call.ty.ndim == (4 if operator_name(call) == "relax.nn.conv2d" else 2)


def _keeps_channels(call: relax.Call) -> bool:
    """Whether a squeeze or expand_dims leaves axes 0 and 1 where they are."""
    rank = max(call.args[0].ty.ndim, call.ty.ndim)
    if call.attrs.axis is None:
        return False
    return all(int(axis) % rank >= 2 for axis in call.attrs.axis)
