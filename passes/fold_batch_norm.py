"""Fold every batch normalisation into a neighbouring layer, or turn it into a layer of its own.

    s = gamma / sqrt(variance + epsilon)        t = beta - mean * s         batch_norm(x) = x * s + t

Before  batch_norm(conv2d(x, w) + b)            behind a layer
After   conv2d(x, w * s) + (b * s + t)

Before  conv2d(batch_norm(x), w) + b            before a layer
After   conv2d(x, w * s) + (b + sum(w * t))

Before  batch_norm(x)                           elsewhere
After   conv2d(x, s, groups=C) + t              a layer called by gamma; x * s + t where x is not 4-D

Products and sums with one parameter per channel that follow (the "scale" layers of other frameworks) belong to the normalisation; such a
product behind or before a layer is folded without one, too.
Behind: bias additions and squeeze / expand_dims may lie between, and nothing else may read the layer's output. Before: only without
padding, which would have to pad with -t / s, nor where the source gives the layer's integers, and the scale of what it reads; a reshape
to 2-D may lie between the normalisation and a dense layer. A layer whose weight another layer shares is left alone. Arithmetic is float64
until the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from tvm import relax
from tvm.ir import GenericConst

from tvm_rsq.model import Model
from tvm_rsq.passes.assemble_main import AssembleMain
from tvm_rsq.passes.dataflow import variables_of
from tvm_rsq.passes.rewrite_bindings import operator_name, static_shape
from tvm_rsq.passes.scaled_layer import ScaledLayer


def fold_batch_norm(model: Model) -> Model:
    """The network without batch_norm, the same function to float32 rounding. Expects the canonical NCHW form; `model` is left alone."""
    return _Fold(model).run()


@dataclass(frozen=True, slots=True, eq=False)
class _Affine:
    """data * scale + shift per channel, float64 (C,).

    reader  the one binding that reads data
    links   every binding that is part of it
    ends    those that hold its result
    """

    reader: relax.Var
    data: relax.Expr
    links: Sequence[relax.Var]
    ends: Sequence[relax.Var]
    scale: np.ndarray
    shift: np.ndarray


class _Fold:
    def __init__(self, model: Model) -> None:
        main = model.module["main"]
        self.model = model
        self.given = () if model.quantization is None else model.quantization.weights  # parameters whose integers the source gives
        self.values: dict[relax.Var, relax.Expr] = {b.var: b.value for block in main.body.blocks for b in block.bindings}
        self.users: dict[relax.Var, list[relax.Var | None]] = {}  # None: the caller
        for var, value in [*self.values.items(), (None, main.body.body)]:
            for read in variables_of(value):
                self.users.setdefault(read, []).append(var)
        self.layers: dict[relax.Var, ScaledLayer] = {}
        self.gone: dict[relax.Var, tuple[relax.Var, relax.Var]] = {}  # folded away -> what it is replaced by, and what read that
        self.standalone: dict[relax.Var, _Affine] = {}
        self.dropped: set[relax.Var] = set()
        self.assembly = AssembleMain(model)

    def run(self) -> Model:
        for var, value in self.values.items():
            if var in self.gone or var in self.standalone or var in self.dropped:
                continue
            if operator_name(value) == "relax.nn.batch_norm":
                affine = self._batch_norm(var, value)
                if not self._fold(affine):
                    self.dropped.update(affine.links)
                    self.standalone.update(dict.fromkeys(affine.ends, affine))
            elif (product := self._per_channel(value, "relax.multiply")) is not None and self._is_param(product[2]):
                self._fold(self._extended(var, product[0], [var], [var], product[1], np.zeros_like(product[1])))
        return self.assembly.build(self._rewrite)

    # ------------------------------------------------------------------------------------------------------------------------ analysis

    def _batch_norm(self, var: relax.Var, call: relax.Call) -> _Affine:
        gamma, beta, mean, variance = (self._array(arg).astype(np.float64) for arg in call.args[1:])
        gamma = gamma if call.attrs.scale else np.ones_like(gamma)
        beta = beta if call.attrs.center else np.zeros_like(beta)
        spread = variance + float(call.attrs.epsilon)
        # a channel that never varied, without an epsilon: its input is its mean, so it is the constant beta
        scale = np.divide(gamma, np.sqrt(np.maximum(spread, 0)), out=np.zeros_like(gamma), where=spread > 0)
        results = [user for user in self.users.get(var, []) if user is not None and self.values[user].index == 0]
        return self._extended(var, call.args[0], [var, *results], results, scale, beta - mean * scale)

    def _extended(
        self, reader: relax.Var, data: relax.Expr, links: list[relax.Var], ends: list[relax.Var], scale: np.ndarray, shift: np.ndarray
    ) -> _Affine:
        """The affine map together with the products and sums with parameters that alone read its result."""
        while len(ends) == 1 and len(users := self.users.get(ends[0], [])) == 1 and users[0] is not None:
            product, addition = (self._per_channel(self.values[users[0]], f"relax.{name}") for name in ("multiply", "add"))
            found = product or addition
            if found is None or not self._is_param(found[2]):
                break
            scale, shift = (scale * found[1], shift * found[1]) if product else (scale, shift + found[1])
            links, ends = [*links, users[0]], [users[0]]
        return _Affine(reader, data, links, ends, scale, shift)

    def _fold(self, affine: _Affine) -> bool:
        """Fold it into the layer behind or before which it stands; False: there is none that can take it."""
        if (layer := self._layer_behind(affine.reader, affine.data)) is not None:
            layer.scale_output(affine.scale, affine.shift)
        elif (layer := self._layer_before(affine.ends)) is not None:
            layer.scale_input(affine.scale, affine.shift)
        else:
            return False
        self.gone.update({link: (affine.data, affine.reader) for link in affine.links})
        return True

    def _layer_behind(self, user: relax.Var, var: relax.Expr) -> ScaledLayer | None:
        """The layer that computes `var` for `user` alone, the bias additions between absorbed; None: there is none."""
        additions: list[tuple[relax.Var, relax.Var, np.ndarray, relax.Expr]] = []
        while self.users.get(var) == [user] and var in self.values:
            value = self.values[var]
            if var in self.gone:
                var, user = self.gone[var]
            elif self._can_be_layer(value):
                layer = self._layer(var)
                for total, data, bias, source in additions:
                    if total not in self.gone:  # else the layer took it when it was first looked at
                        layer.add_bias(bias, self._own_name(source))
                        self.gone[total] = data, total
                return layer
            elif (addition := self._per_channel(value, "relax.add")) is not None:
                additions.append((var, *addition))
                var, user = addition[0], var
            elif operator_name(value) in ("relax.squeeze", "relax.expand_dims") and _keeps_channels(value):
                var, user = value.args[0], var
            else:
                return None
        return None

    def _layer_before(self, ends: Sequence[relax.Var]) -> ScaledLayer | None:
        """The layer that alone reads the one result, if folding into it is exact."""
        if len(ends) != 1 or (user := self._sole_user(ends[0])) is None:
            return None
        data, value = ends[0], self.values[user]
        flattens = operator_name(value) in ("relax.reshape", "relax.flatten")
        if flattens:
            if user.ty.ndim != 2 or static_shape(user)[0] != static_shape(data)[0] or (reader := self._sole_user(user)) is None:
                return None
            data, user, value = user, reader, self.values[reader]
        if not self._can_be_layer(value) or value.args[0] != data or value.args[1].name in self.given:
            return None
        if operator_name(value) == "relax.nn.conv2d" and (flattens or any(int(p) for p in value.attrs.padding)):
            return None
        return self._layer(user)

    def _can_be_layer(self, value: relax.Expr) -> bool:
        if operator_name(value) not in ("relax.nn.conv2d", "relax.matmul") or not self._is_param(value.args[1]):
            return False
        if operator_name(value) == "relax.matmul" and (value.ty.ndim, value.args[1].ty.ndim) != (2, 2):
            return False
        return len(self.users[value.args[1]]) == 1

    def _layer(self, var: relax.Var) -> ScaledLayer:
        """The layer's record, made when first asked for, with the bias that is added right behind it."""
        if var not in self.layers:
            call = self.values[var]
            layer = self.layers[var] = ScaledLayer(call, self._array(call.args[1]).astype(np.float64))
            user = self._sole_user(var)
            bias = None if user is None else self._per_channel(self.values[user], "relax.add")
            if bias is not None and self._is_param(bias[2]):
                layer.add_bias(bias[1], self._own_name(bias[2]))
                self.gone[user] = var, user
        return self.layers[var]

    def _per_channel(self, value: relax.Expr, operator: str) -> tuple[relax.Var, np.ndarray, relax.Expr] | None:
        """(data, float64 (C,), its expression) of a sum or product with one known number per channel (axis 1)."""
        if operator_name(value) != operator:
            return None
        for data, other in (value.args, reversed(value.args)):
            known = isinstance(other, GenericConst) or self._is_param(other)
            if not known or not isinstance(data, relax.Var) or self._is_param(data):
                continue
            array, shape = self._array(other), static_shape(data)
            aligned = (1,) * (len(shape) - array.ndim) + array.shape
            if len(aligned) == len(shape) > 1 and aligned[1] in (1, shape[1]) and array.size == aligned[1]:
                return data, np.broadcast_to(array.astype(np.float64).reshape(-1), shape[1:2]), other
        return None

    def _array(self, expr: relax.Expr) -> np.ndarray:
        return expr.value.numpy() if isinstance(expr, GenericConst) else self.model.params[expr.name]

    def _is_param(self, expr: relax.Expr) -> bool:
        return isinstance(expr, relax.Var) and expr not in self.values and expr.name in self.model.params

    def _sole_user(self, var: relax.Var) -> relax.Var | None:
        users = self.users.get(var, [])
        return users[0] if len(users) == 1 else None

    def _own_name(self, expr: relax.Expr) -> str | None:
        """A parameter's name if nothing else uses the parameter."""
        return expr.name if self._is_param(expr) and len(self.users[expr]) == 1 else None

    # ----------------------------------------------------------------------------------------------------------------------- rewriting

    def _rewrite(self, var: relax.Var, value: relax.Expr) -> relax.Expr | None:
        if var in self.gone:
            return self.assembly.replaced[self.gone[var][0]]
        if var in self.layers:
            return self._emit_layer(self.layers[var])
        if var in self.standalone:
            return self._emit_standalone(self.standalone[var])
        if var in self.dropped:
            return None
        return self.assembly.emit(self.assembly.operand(value))

    def _emit_layer(self, layer: ScaledLayer) -> relax.Expr:
        data, weight = layer.call.args
        new_weight = self.assembly.param(weight.name, layer.weight.astype(np.float32))
        out = self.assembly.emit(relax.Call(layer.call.op, [self.assembly.operand(data), new_weight], layer.call.attrs))
        if layer.bias is None:
            return out
        name = layer.bias_name or self.assembly.free_name(_bias_name(weight.name))
        bias = self.assembly.param(name, layer.bias.astype(np.float32).reshape((-1,) if layer.is_dense else (1, -1, 1, 1)))
        return self.assembly.emit(relax.op.add(out, bias))

    def _emit_standalone(self, affine: _Affine) -> relax.Expr:
        data, gamma, beta = self.values[affine.reader].args[:3]
        name = self._own_name(gamma) or self.assembly.free_name(gamma.name if self._is_param(gamma) else "batch_norm.weight")
        bias_name = self._own_name(beta) or self.assembly.free_name(_bias_name(name))
        rank = data.ty.ndim
        along = (-1,) if rank == 2 else (1, -1) + (1,) * (rank - 2)
        scale, shift = affine.scale.astype(np.float32), affine.shift.astype(np.float32)
        data = self.assembly.operand(data)
        if rank == 4:
            weight = self.assembly.param(name, scale.reshape(-1, 1, 1, 1))
            scaled = self.assembly.emit(relax.op.nn.conv2d(data, weight, groups=len(scale)))
        else:
            scaled = self.assembly.emit(relax.op.multiply(data, self.assembly.param(name, scale.reshape(along))))
        return self.assembly.emit(relax.op.add(scaled, self.assembly.param(bias_name, shift.reshape(along))))


def _bias_name(weight_name: str) -> str:
    return weight_name.removesuffix("weight") + "bias" if weight_name.endswith("weight") else f"{weight_name}.bias"


def _keeps_channels(call: relax.Call) -> bool:
    """Whether a squeeze or expand_dims leaves axes 0 and 1 where they are."""
    rank = max(call.args[0].ty.ndim, call.ty.ndim)
    return call.attrs.axis is not None and all(int(axis) % rank >= 2 for axis in call.attrs.axis)
