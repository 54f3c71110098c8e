"""The operator table of the executor: Relax operator name -> builder.

A builder takes the Relax call, reads everything static from it once, and returns a function of the call's tensor arguments (tuples of
tensors for concat and the like). Those of images are in executor_windows.py, those of shapes in executor_shapes.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from tvm.relax import Call

from tvm_rsq import executor_shapes as shapes
from tvm_rsq import executor_windows as windows
from tvm_rsq.blocked_product import blocked_product
from tvm_rsq.errors import UnsupportedError
from tvm_rsq.executor_windows import Function, static_shape

Builder = Callable[[Call], Function]


def _simple(function: Function) -> Builder:
    return lambda _call: function


def _batch_norm(call: Call) -> Function:
    attrs = call.attrs
    if attrs.training:
        raise UnsupportedError("batch_norm is in training mode, expected evaluation mode; export the network with .eval()")
    axis, epsilon = int(attrs.axis), float(attrs.epsilon)
    use_scale, use_center = bool(attrs.scale), bool(attrs.center)

    def run(data: torch.Tensor, gamma: torch.Tensor, beta: torch.Tensor, mean: torch.Tensor, var: torch.Tensor) -> tuple[torch.Tensor, ...]:
        last = data.movedim(axis, 1)
        out = F.batch_norm(last, mean, var, gamma if use_scale else None, beta if use_center else None, False, 0.0, epsilon)
        return out.movedim(1, axis), mean, var

    return run


def _leaky_relu(call: Call) -> Function:
    alpha = float(call.attrs.alpha)
    return lambda x: F.leaky_relu(x, alpha)


def _prelu(call: Call) -> Function:
    rank, axis = len(static_shape(call.args[0])), int(call.attrs.axis)
    shape = [-1 if i == axis % rank else 1 for i in range(rank)]
    return lambda x, alpha: torch.where(x > 0, x, x * alpha.reshape(shape))


def _clip(call: Call) -> Function:
    low, high = float(call.args[1].value), float(call.args[2].value)

    def run(x: torch.Tensor) -> torch.Tensor:
        if x.is_floating_point():
            # hardtanh is the same between finite bounds, and its backward pass costs a third of clamp's.
            return F.hardtanh(x, low, high) if math.isfinite(high - low) else x.clamp(low, high)
        info = torch.iinfo(x.dtype)
        return x.clamp(math.ceil(max(low, info.min)), math.floor(min(high, info.max)))

    return run


def _divide(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return torch.div(x, y) if x.is_floating_point() else torch.div(x, y, rounding_mode="trunc")


def _axis(function: Callable[[Any, int], torch.Tensor]) -> Builder:
    def build(call: Call) -> Function:
        axis = int(call.attrs.axis)
        return lambda x: function(x, axis)

    return build


def _reduce(function: Callable[..., torch.Tensor]) -> Builder:
    def build(call: Call) -> Function:
        axes = call.attrs.axis
        axes = tuple(range(len(static_shape(call.args[0])))) if axes is None else tuple(int(a) for a in axes)
        keep = bool(call.attrs.keepdims)
        return lambda x: function(x, dim=axes, keepdim=keep)

    return build


def _matmul(call: Call) -> Function:
    dtype = str(call.ty.dtype)

    def run(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        if x.is_floating_point():
            return blocked_product(x.flatten(0, -2), y).unflatten(0, x.shape[:-1]) if y.ndim == 2 and x.ndim > 1 else x @ y
        return (x.double() @ y.double()).to(getattr(torch, dtype))  # exact: float64 holds every integer up to 2**53

    return run


def _per_axis(value: torch.Tensor, data: torch.Tensor, axis: int) -> torch.Tensor:
    """A scale or zero point, scalar or a vector along `axis`, in a shape that broadcasts against `data`."""
    if value.numel() == 1:
        return value.reshape(())
    return value.reshape([-1 if i == axis % data.ndim else 1 for i in range(data.ndim)])


def _quantize(call: Call) -> Function:
    axis, dtype = int(call.attrs.axis), getattr(torch, str(call.attrs.out_dtype))
    info = torch.iinfo(dtype)

    def run(data: torch.Tensor, scale: torch.Tensor, zero_point: torch.Tensor) -> torch.Tensor:
        # As the kernels do it: one rounding of x * float32(1 / scale) + zero_point, so that a tie is broken alike.
        inverse = 1 / _per_axis(scale, data, axis).to(torch.float32)
        scaled = torch.round(data * inverse.to(data.dtype) + _per_axis(zero_point, data, axis).to(data.dtype))
        return scaled.clamp(info.min, info.max).to(dtype)

    return run


def _dequantize(dtype: torch.dtype) -> Builder:
    def build(call: Call) -> Function:
        axis = int(call.attrs.axis)

        def run(data: torch.Tensor, scale: torch.Tensor, zero_point: torch.Tensor) -> torch.Tensor:
            shifted = data.to(torch.int32) - _per_axis(zero_point, data, axis).to(torch.int32)
            return shifted.to(dtype) * _per_axis(scale, data, axis).to(dtype)

        return run

    return build


def _astype(dtype: torch.dtype) -> Builder:
    def build(call: Call) -> Function:
        name = str(call.attrs.dtype)
        to = dtype if name == "float32" else getattr(torch, name)
        return lambda x: x.to(to)

    return build


def operators(dtype: torch.dtype) -> dict[str, Builder]:
    """Every operator that the executor knows; `dtype` stands for the IR's float32."""
    return _OPERATORS | {"relax.dequantize": _dequantize(dtype), "relax.astype": _astype(dtype)}


_OPERATORS: dict[str, Any] = {
    "relax.nn.conv2d": windows.conv2d,
    "relax.nn.max_pool2d": windows.max_pool2d,
    "relax.nn.avg_pool2d": windows.avg_pool2d,
    "relax.nn.avg_pool3d": windows.avg_pool3d,
    "relax.nn.adaptive_avg_pool2d": windows.adaptive_avg_pool2d,
    "relax.image.resize2d": windows.resize2d,
    "relax.matmul": _matmul,
    "relax.nn.batch_norm": _batch_norm,
    "relax.nn.relu": _simple(F.relu),
    "relax.nn.leakyrelu": _leaky_relu,
    "relax.nn.prelu": _prelu,
    "relax.clip": _clip,
    "relax.sigmoid": _simple(torch.sigmoid),
    "relax.tanh": _simple(torch.tanh),
    "relax.nn.silu": _simple(F.silu),
    "relax.nn.gelu": _simple(F.gelu),
    "relax.nn.gelu_tanh": _simple(lambda x: F.gelu(x, approximate="tanh")),
    "relax.nn.softmax": _axis(F.softmax),
    "relax.nn.log_softmax": _axis(F.log_softmax),
    "relax.add": _simple(torch.add),
    "relax.subtract": _simple(torch.sub),
    "relax.multiply": _simple(torch.mul),
    "relax.divide": _simple(_divide),
    "relax.maximum": _simple(torch.maximum),
    "relax.minimum": _simple(torch.minimum),
    "relax.power": _simple(torch.pow),
    "relax.sqrt": _simple(torch.sqrt),
    "relax.rsqrt": _simple(torch.rsqrt),
    "relax.exp": _simple(torch.exp),
    "relax.log": _simple(torch.log),
    "relax.erf": _simple(torch.erf),
    "relax.abs": _simple(torch.abs),
    "relax.negative": _simple(torch.neg),
    "relax.square": _simple(torch.square),
    "relax.round": _simple(torch.round),
    "relax.floor": _simple(torch.floor),
    "relax.ceil": _simple(torch.ceil),
    "relax.concat": _axis(lambda parts, axis: torch.cat(parts, axis)),
    "relax.stack": _axis(lambda parts, axis: torch.stack(parts, axis)),
    "relax.split": shapes.split,
    "relax.mean": _reduce(torch.mean),
    "relax.sum": _reduce(torch.sum),
    "relax.max": _reduce(torch.amax),
    "relax.min": _reduce(torch.amin),
    "relax.nn.pad": shapes.pad,
    "relax.reshape": shapes.reshape,
    "relax.flatten": shapes.flatten,
    "relax.permute_dims": shapes.permute_dims,
    "relax.squeeze": shapes.squeeze,
    "relax.expand_dims": shapes.expand_dims,
    "relax.broadcast_to": shapes.broadcast_to,
    "relax.strided_slice": shapes.strided_slice,
    "relax.take": shapes.take,
    "relax.quantize": _quantize,
}
