"""Store image tensors channels-last: NHWC data, OHWI kernels, as the kernels and their vector registers want them.

Before  main(x: (N, C, H, W), w: (O, C, KH, KW), b: (1, O, 1, 1)):
            conv = conv2d(x, w); out = add(conv, b); y = relu(out)
After   main(x: (N, C, H, W), w: (O, KH, KW, C), b: (O,)):
            x1 = permute_dims(x, [0, 2, 3, 1]); conv = conv2d(x1, w, NHWC, OHWI); out = add(conv, b)
            y = permute_dims(relu(out), [0, 3, 1, 2])

Inputs and outputs keep their layout. Every tensor carries the order of its axes; operators have their axes translated, permute_dims only
changes the order (a channel shuffle becomes one permutation of the last two axes), and what cannot follow gets its operands back in the
original layout. A flattened image that only dense layers read is flattened as it lies, and their weights' rows are permuted instead.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from tvm import relax
from tvm.ir import GenericConst
from tvm.relax import op as R

from tvm_rsq.model import Model
from tvm_rsq.passes import axis_order
from tvm_rsq.passes.assemble_main import AssembleMain
from tvm_rsq.passes.axis_order import CHANNELS_LAST, Order, identity
from tvm_rsq.passes.dataflow import variables_of
from tvm_rsq.passes.rewrite_bindings import operator_name, static_shape

UNARY = frozenset(
    f"relax.{name}"
    for name in (
        "abs", "astype", "ceil", "clip", "cos", "erf", "exp", "floor", "log", "negative", "nn.gelu", "nn.gelu_tanh", "nn.leakyrelu",
        "nn.relu", "nn.relu6", "nn.silu", "nn.softplus", "round", "rsqrt", "sigmoid", "sign", "sin", "sqrt", "square", "tanh",
    )
)  # fmt: skip
BINARY = frozenset(f"relax.{name}" for name in ("add", "divide", "maximum", "minimum", "multiply", "power", "subtract"))
REDUCTIONS = {f"relax.{name}": getattr(R, name) for name in ("max", "mean", "min", "sum")}
RESHAPES = frozenset({"relax.flatten", "relax.reshape"})


def to_channels_last(model: Model) -> Model:
    """The same function with image tensors NHWC inside. Expects the canonical form; `model` is left alone, a second run changes nothing."""
    return _ToChannelsLast(model).run()


@dataclass(frozen=True, slots=True, eq=False)
class _Stored:
    """How an old variable's value is stored in the new main.

    order  stored axis -> original axis
    image  (C, H, W) of the NHWC image that was flattened to (N, F) as it lay, so that the features are in its order; else None
    """

    var: relax.Expr
    order: Order
    image: tuple[int, int, int] | None = None


class _ToChannelsLast:
    def __init__(self, model: Model) -> None:
        self.model = model
        self.assembly = AssembleMain(model)
        main = model.module["main"]
        self.values: dict[relax.Var, relax.Expr] = {b.var: b.value for block in main.body.blocks for b in block.bindings}
        self.users: dict[relax.Var, list[relax.Var | None]] = {}
        for var, value in [*self.values.items(), (None, main.body.body)]:
            for read in variables_of(value):
                self.users.setdefault(read, []).append(var)
        self.inputs = set(list(main.params)[: len(model.inputs)])
        self.params = set(list(main.params)[len(model.inputs) :])
        self.stored: dict[relax.Var, _Stored] = {}
        self.converted: dict[tuple[relax.Var, Order], relax.Expr] = {(var, identity(var.ty.ndim)): var for var in self.inputs}
        self.forms: dict[tuple[str, object], relax.Var] = {}

    def run(self) -> Model:
        return self.assembly.build(self._rewrite, output=self._plain)

    def _rewrite(self, var: relax.Var, value: relax.Expr) -> relax.Expr:
        name = operator_name(value)
        handler = _HANDLERS.get(name)
        stored = None
        if isinstance(value, relax.TupleGetItem) and value.tuple_value in self.stored:
            parts = self.stored[value.tuple_value]
            stored = _Stored(self.assembly.emit(relax.TupleGetItem(parts.var, value.index)), parts.order)
        elif name in UNARY:
            data = self._stored(value.args[0])
            stored = _Stored(self.assembly.emit(relax.Call(value.op, [data.var, *value.args[1:]], value.attrs)), data.order, data.image)
        elif handler is not None:
            stored = handler(self, var, value)
        if stored is None:  # an operator that cannot follow: everything as it was
            new = self.assembly.emit(self._with_plain_operands(value))
            stored = _Stored(new, identity(var.ty.ndim)) if isinstance(var.ty, relax.TensorType) else None
        if stored is None:
            return new
        self.stored[var] = stored
        if isinstance(var.ty, relax.TensorType):
            self.converted[var, stored.order] = stored.var
        return stored.var

    # ------------------------------------------------------------------------------------------------------------------------- values

    def _stored(self, var: relax.Expr) -> _Stored:
        """How a variable is stored; a 4-D input is permuted when first asked for."""
        if var not in self.stored:
            if var in self.params:
                return _Stored(self._param(var), identity(var.ty.ndim))
            if not isinstance(var, relax.Var):
                return _Stored(var, identity(var.ty.ndim))
            order = CHANNELS_LAST if var.ty.ndim == 4 else identity(var.ty.ndim)
            new = self.assembly.emit(R.permute_dims(var, order)) if var.ty.ndim == 4 else var
            self.stored[var] = _Stored(new, order)
            self.converted[var, order] = new
        return self.stored[var]

    def _in_order(self, var: relax.Expr, order: Order) -> relax.Expr:
        """A variable's value stored in this order, converted once."""
        if var in self.params:
            return self._param(var, order)
        stored = self._stored(var)
        if (var, order) not in self.converted:
            shape = static_shape(var)
            if axis_order.moves_data(shape, stored.order, order):
                new = R.permute_dims(stored.var, axis_order.conversion(stored.order, order))
            else:
                new = R.reshape(stored.var, [shape[axis] for axis in order])
            self.converted[var, order] = self.assembly.emit(new)
        return self.converted[var, order]

    def _plain(self, var: relax.Expr) -> relax.Expr:
        if not isinstance(var.ty, relax.TensorType):
            return self._plain_tuple(var)
        if (var, identity(var.ty.ndim)) in self.converted:
            return self.converted[var, identity(var.ty.ndim)]
        return self._in_order(var, identity(var.ty.ndim))

    def _plain_tuple(self, var: relax.Var) -> relax.Expr:
        if var not in self.stored or self.stored[var].order == identity(len(self.stored[var].order)):
            return self.assembly.replaced[var]
        order = self.stored[var].order
        back = axis_order.conversion(order, identity(len(order)))
        parts = [self.assembly.emit(relax.TupleGetItem(self.stored[var].var, i)) for i in range(len(var.ty.fields))]
        return self.assembly.emit(relax.Tuple([self.assembly.emit(R.permute_dims(part, back)) for part in parts]))

    def _with_plain_operands(self, expr: relax.Expr) -> relax.Expr:
        if isinstance(expr, relax.Var):
            return self._plain(expr)
        if isinstance(expr, relax.Tuple):
            return relax.Tuple([self._with_plain_operands(field) for field in expr.fields])
        if isinstance(expr, relax.TupleGetItem):
            return relax.TupleGetItem(self._with_plain_operands(expr.tuple_value), expr.index)
        if isinstance(expr, relax.Call):
            return relax.Call(expr.op, [self._with_plain_operands(arg) for arg in expr.args], expr.attrs, expr.ty_args)
        return expr

    def _param(self, var: relax.Var, form: object = None, change: Callable[[np.ndarray], np.ndarray] | None = None) -> relax.Var:
        """A parameter in one of its forms (an order, or any other key with its `change`); the first form has the parameter's name."""
        if isinstance(form, tuple) and change is None:
            order = form
            form = None if order == identity(len(order)) else order
            change = partial(np.transpose, axes=order)
        if (var.name, form) not in self.forms:
            value = self.model.params[var.name]
            value = value if form is None or change is None else np.ascontiguousarray(change(value))
            taken = any(name == var.name for name, _ in self.forms)
            self.forms[var.name, form] = self.assembly.param(self.assembly.free_name(var.name) if taken else var.name, value)
        return self.forms[var.name, form]

    # ---------------------------------------------------------------------------------------------------------------------- operators

    def _conv2d(self, _var: relax.Var, call: relax.Call) -> _Stored | None:
        attrs = call.attrs
        if attrs.data_layout != "NCHW" or attrs.kernel_layout != "OIHW":
            return None
        data, weight = self._in_order(call.args[0], CHANNELS_LAST), self._in_order(call.args[1], CHANNELS_LAST)
        new = R.nn.conv2d(
            data, weight, attrs.strides, attrs.padding, attrs.dilation, attrs.groups, "NHWC", "OHWI", out_dtype=attrs.out_dtype or None
        )
        return _Stored(self.assembly.emit(new), CHANNELS_LAST)

    def _pool2d(self, _var: relax.Var, call: relax.Call) -> _Stored | None:
        attrs = call.attrs
        if attrs.layout != "NCHW":
            return None
        data = self._in_order(call.args[0], CHANNELS_LAST)
        if operator_name(call) == "relax.nn.adaptive_avg_pool2d":
            new = R.nn.adaptive_avg_pool2d(data, attrs.output_size, layout="NHWC")
        else:
            pool = R.nn.max_pool2d if operator_name(call) == "relax.nn.max_pool2d" else R.nn.avg_pool2d
            new = pool(
                data, attrs.pool_size, attrs.strides, attrs.padding, attrs.dilation, attrs.ceil_mode, attrs.count_include_pad, layout="NHWC"
            )
        return _Stored(self.assembly.emit(new), CHANNELS_LAST)

    def _resize2d(self, _var: relax.Var, call: relax.Call) -> _Stored | None:
        a = call.attrs
        if a.layout != "NCHW":
            return None
        new = R.image.resize2d(
            self._in_order(call.args[0], CHANNELS_LAST), call.args[1], [float(v) for v in a.roi], "NHWC", a.method,
            a.coordinate_transformation_mode, a.rounding_method, a.cubic_alpha, a.cubic_exclude, a.extrapolation_value, a.out_dtype or None,
        )  # fmt: skip
        return _Stored(self.assembly.emit(new), CHANNELS_LAST)

    def _binary(self, var: relax.Var, call: relax.Call) -> _Stored | None:
        rank = var.ty.ndim
        tensors = [arg for arg in call.args if isinstance(arg, relax.Var) and arg not in self.params]
        if any(isinstance(arg, GenericConst) and arg.ty.ndim > 0 for arg in call.args) or not tensors:
            return None
        found = [self._stored(arg) for arg in tensors if arg.ty.ndim == rank]
        image = next((stored.image for stored in found if stored.image is not None), None)
        order = next((stored.order for stored in found if stored.order != identity(rank)), identity(rank))
        operands = [self._aligned(arg, order, image) for arg in call.args]
        return _Stored(self.assembly.emit(relax.Call(call.op, operands, call.attrs)), order, image)

    def _aligned(self, arg: relax.Expr, order: Order, image: tuple[int, int, int] | None) -> relax.Expr:
        """An operand of an element-wise operator, such that it broadcasts against a tensor stored in `order`."""
        rank = len(order)
        if isinstance(arg, GenericConst):
            return arg
        if arg in self.params:
            if image is not None and static_shape(arg)[-1:] == (int(np.prod(image)),):
                return self._param(arg, ("features", image), lambda array: array[..., _features(image)])
            if order == identity(rank):
                return self._param(arg)

            def change(array: np.ndarray) -> np.ndarray:
                array = array.reshape((1,) * (rank - array.ndim) + array.shape).transpose(order)
                leading = next((axis for axis, extent in enumerate(array.shape) if extent > 1), rank - 1)
                return array.reshape(array.shape[leading:])  # (C,) for a bias: broadcasting supplies leading ones

            return self._param(arg, ("broadcast", order), change)
        if image is not None:
            return self._stored(arg).var
        if arg.ty.ndim == rank:
            return self._in_order(arg, order)
        shape = (1,) * (rank - arg.ty.ndim) + static_shape(arg)
        wide = self.assembly.emit(R.reshape(self._plain(arg), shape))
        return wide if order == identity(rank) else self.assembly.emit(R.permute_dims(wide, order))

    def _prelu(self, _var: relax.Var, call: relax.Call) -> _Stored:
        data = self._stored(call.args[0])
        axis = data.order.index(int(call.attrs.axis) % len(data.order))
        return _Stored(self.assembly.emit(R.nn.prelu(data.var, self._plain(call.args[1]), axis)), data.order)

    def _softmax(self, _var: relax.Var, call: relax.Call) -> _Stored:
        data = self._stored(call.args[0])
        axis = data.order.index(int(call.attrs.axis) % len(data.order))
        softmax = R.nn.softmax if operator_name(call) == "relax.nn.softmax" else R.nn.log_softmax
        return _Stored(self.assembly.emit(softmax(data.var, axis)), data.order)

    def _concat(self, var: relax.Var, call: relax.Call) -> _Stored | None:
        fields = list(call.args[0].fields) if isinstance(call.args[0], relax.Tuple) else []
        if not fields or not all(isinstance(field, relax.Var) for field in fields):
            return None
        rank = var.ty.ndim
        orders = [self._stored(field).order for field in fields if field not in self.params]
        order = next((order for order in orders if order != identity(rank)), identity(rank))
        axis = order.index(int(call.attrs.axis) % rank)
        return _Stored(self.assembly.emit(R.concat([self._in_order(field, order) for field in fields], axis)), order)

    def _split(self, _var: relax.Var, call: relax.Call) -> _Stored:
        data = self._stored(call.args[0])
        sections = call.attrs.indices_or_sections
        sections = int(sections) if hasattr(sections, "value") or isinstance(sections, int) else [int(index) for index in sections]
        axis = data.order.index(int(call.attrs.axis) % len(data.order))
        return _Stored(self.assembly.emit(R.split(data.var, sections, axis)), data.order)

    def _reduce(self, _var: relax.Var, call: relax.Call) -> _Stored:
        data = self._stored(call.args[0])
        rank = len(data.order)
        axes = range(rank) if call.attrs.axis is None else [int(axis) % rank for axis in call.attrs.axis]
        stored_axes = sorted(data.order.index(axis) for axis in axes)
        new = self.assembly.emit(REDUCTIONS[operator_name(call)](data.var, stored_axes, bool(call.attrs.keepdims)))
        return _Stored(new, data.order if call.attrs.keepdims else axis_order.without_axes(data.order, axes))

    def _squeeze(self, _var: relax.Var, call: relax.Call) -> _Stored:
        data, shape = self._stored(call.args[0]), static_shape(call.args[0])
        ones = [axis for axis, extent in enumerate(shape) if extent == 1]
        axes = ones if call.attrs.axis is None else [int(axis) % len(shape) for axis in call.attrs.axis]
        new = self.assembly.emit(R.squeeze(data.var, sorted(data.order.index(axis) for axis in axes)))
        return _Stored(new, axis_order.without_axes(data.order, axes))

    def _expand_dims(self, var: relax.Var, call: relax.Call) -> _Stored:
        data, rank = self._stored(call.args[0]), var.ty.ndim
        inserted = {int(axis) % rank for axis in call.attrs.axis}
        order = axis_order.with_axes(data.order, inserted)
        return _Stored(self.assembly.emit(R.expand_dims(data.var, [order.index(axis) for axis in sorted(inserted)])), order)

    def _permute_dims(self, var: relax.Var, call: relax.Call) -> _Stored:
        data = self._stored(call.args[0])
        axes = list(reversed(range(var.ty.ndim))) if call.attrs.axes is None else [int(axis) % var.ty.ndim for axis in call.attrs.axes]
        return _Stored(data.var, axis_order.permuted(data.order, axes))

    def _pad(self, _var: relax.Var, call: relax.Call) -> _Stored:
        data, widths = self._stored(call.args[0]), [int(width) for width in call.attrs.pad_width]
        stored = [width for axis in data.order for width in widths[2 * axis : 2 * axis + 2]]
        return _Stored(self.assembly.emit(R.nn.pad(data.var, stored, call.attrs.pad_mode, call.attrs.pad_value)), data.order)

    def _strided_slice(self, _var: relax.Var, call: relax.Call) -> _Stored:
        data = self._stored(call.args[0])
        axes, *bounds = ([int(getattr(number, "value", number)) for number in part.fields] for part in call.args[1:])
        stored_axes = [data.order.index(axis % len(data.order)) for axis in axes]
        return _Stored(self.assembly.emit(R.strided_slice(data.var, stored_axes, *bounds)), data.order)

    def _broadcast_to(self, var: relax.Var, call: relax.Call) -> _Stored | None:
        if call.args[0].ty.ndim != var.ty.ndim:
            return None
        data, shape = self._stored(call.args[0]), static_shape(var)
        return _Stored(self.assembly.emit(R.broadcast_to(data.var, [shape[axis] for axis in data.order])), data.order)

    def _reshape(self, var: relax.Var, call: relax.Call) -> _Stored | None:
        data = call.args[0]
        if data in self.inputs:
            return None  # it is there in its own layout
        source, target, order = static_shape(data), static_shape(var), self._stored(data).order
        before, after = axis_order.reshaped(source, target, order)
        if before != order and order == CHANNELS_LAST and target == (source[0], int(np.prod(source[1:]))) and self._only_dense_reads(var):
            image = (source[1], source[2], source[3])
            return _Stored(self.assembly.emit(R.reshape(self._stored(data).var, target)), identity(2), image=image)
        new = R.reshape(self._in_order(data, before), [target[axis] for axis in after])
        return _Stored(self.assembly.emit(new), after)

    def _only_dense_reads(self, var: relax.Var) -> bool:
        """Whether the features go to dense layers alone, through element-wise operators with parameters and numbers."""
        users = self.users.get(var, [])
        for user in users:
            if user is None:
                return False
            value = self.values[user]
            name = operator_name(value)
            if name == "relax.matmul":
                if value.args[0] != var or value.args[1] not in self.params or value.args[1].ty.ndim != 2:
                    return False
            elif name in BINARY:
                others = [arg for arg in value.args if arg not in self.params and not isinstance(arg, GenericConst)]
                if len(others) != 1 or user.ty.ndim != 2 or not self._only_dense_reads(user):
                    return False
            elif name not in UNARY or not self._only_dense_reads(user):
                return False
        return bool(users)

    def _matmul(self, _var: relax.Var, call: relax.Call) -> _Stored | None:
        data = self.stored.get(call.args[0])
        if data is None or data.image is None:
            return None
        image = data.image
        weight = self._param(call.args[1], ("features", image, 0), lambda array: array[_features(image)])
        return _Stored(self.assembly.emit(relax.Call(call.op, [data.var, weight], call.attrs)), identity(2))


def _features(image: tuple[int, int, int]) -> np.ndarray:
    """feature of the flattened (H, W, C) -> feature of the flattened (C, H, W)."""
    return np.arange(np.prod(image)).reshape(image).transpose(1, 2, 0).reshape(-1)


_HANDLERS = {
    "relax.nn.conv2d": _ToChannelsLast._conv2d,
    **{f"relax.nn.{name}": _ToChannelsLast._pool2d for name in ("max_pool2d", "avg_pool2d", "adaptive_avg_pool2d")},
    "relax.image.resize2d": _ToChannelsLast._resize2d,
    **dict.fromkeys(BINARY, _ToChannelsLast._binary),
    "relax.nn.prelu": _ToChannelsLast._prelu,
    "relax.nn.softmax": _ToChannelsLast._softmax,
    "relax.nn.log_softmax": _ToChannelsLast._softmax,
    "relax.concat": _ToChannelsLast._concat,
    "relax.split": _ToChannelsLast._split,
    **dict.fromkeys(REDUCTIONS, _ToChannelsLast._reduce),
    "relax.squeeze": _ToChannelsLast._squeeze,
    "relax.expand_dims": _ToChannelsLast._expand_dims,
    "relax.permute_dims": _ToChannelsLast._permute_dims,
    "relax.nn.pad": _ToChannelsLast._pad,
    "relax.strided_slice": _ToChannelsLast._strided_slice,
    "relax.broadcast_to": _ToChannelsLast._broadcast_to,
    **dict.fromkeys(RESHAPES, _ToChannelsLast._reshape),
    "relax.matmul": _ToChannelsLast._matmul,
}
