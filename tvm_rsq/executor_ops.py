"""The operator table of the executor: Relax operator name -> builder.

A builder takes the Relax call, reads everything static from it once, and returns a function of the call's tensor arguments (tuples of
tensors for concat and the like). The IR's shapes are static but the batch is not: where a static shape names the batch, the actual one is
put in.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from tvm.relax import Call

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


def _split(call: Call) -> Function:
    axis = int(call.attrs.axis)
    sizes = [int(field.shape.values[axis]) for field in call.ty.fields]
    return lambda x: tuple(torch.split(x, sizes, axis))


def _pad(call: Call) -> Function:
    attrs = call.attrs
    if attrs.pad_mode != "constant":
        raise UnsupportedError(f"pad has mode {attrs.pad_mode}, expected constant")
    widths, value = [int(w) for w in attrs.pad_width], float(attrs.pad_value)
    pairs = [w for axis in reversed(range(len(widths) // 2)) for w in widths[2 * axis : 2 * axis + 2]]
    return lambda x: F.pad(x, pairs, value=value)


def _reshape(call: Call) -> Function:
    source, target = static_shape(call.args[0]), static_shape(call)

    def run(x: torch.Tensor) -> torch.Tensor:
        return x.reshape(target if tuple(x.shape) == source else _with_batch(call, x.shape, source, target))

    return run


def _with_batch(call: Call, actual: Sequence[int], source: Sequence[int], target: Sequence[int]) -> list[int]:
    """`target` with the one extent in which `actual` differs from `source` put in its place. UnsupportedError: it has no place there."""
    changed = [i for i, (a, s) in enumerate(zip(actual, source, strict=False)) if a != s]
    if len(changed) == 1 and len(actual) == len(source):
        i = changed[0]
        for j, extent in enumerate(target):
            if extent == source[i] and math.prod(target[:j]) == math.prod(source[:i]):
                return [*target[:j], actual[i], *target[j + 1 :]]
    raise UnsupportedError(
        f"{call.op.name} from {list(source)} to {list(target)} got shape {list(actual)}: the batch cannot be followed through it; "
        f"run with the network's own batch size"
    )


def _flatten(call: Call) -> Function:
    source = static_shape(call.args[0])

    def run(x: torch.Tensor) -> torch.Tensor:
        return x.reshape(-1 if tuple(x.shape) == source else _with_batch(call, x.shape, source, static_shape(call)))

    return run


def _permute_dims(call: Call) -> Function:
    axes = call.attrs.axes
    order = tuple(reversed(range(len(static_shape(call.args[0]))))) if axes is None else tuple(int(a) for a in axes)
    return lambda x: x.permute(order)


def _squeeze(call: Call) -> Function:
    source = static_shape(call.args[0])
    axes = call.attrs.axis
    gone = tuple(i for i, extent in enumerate(source) if extent == 1) if axes is None else tuple(int(a) % len(source) for a in axes)

    def run(x: torch.Tensor) -> torch.Tensor:
        if any(x.shape[axis] != 1 for axis in gone):
            raise UnsupportedError(f"squeeze of axes {list(gone)} got shape {list(x.shape)}: the batch would vanish; run with batch 1")
        return x.squeeze(gone)

    return run


def _expand_dims(call: Call) -> Function:
    rank = len(static_shape(call))
    axes = sorted(int(a) % rank for a in call.attrs.axis)

    def run(x: torch.Tensor) -> torch.Tensor:
        for axis in axes:
            x = x.unsqueeze(axis)
        return x

    return run


def _broadcast_to(call: Call) -> Function:
    source, target = static_shape(call.args[0]), static_shape(call)

    def run(x: torch.Tensor) -> torch.Tensor:
        shape = list(target)
        for back, (actual, static) in enumerate(zip(reversed(x.shape), reversed(source), strict=True), start=1):
            if actual != static:
                shape[-back] = actual
        return x.expand(shape)

    return run


def _strided_slice(call: Call) -> Function:
    source = static_shape(call.args[0])
    axes, begin, end, *rest = ([int(getattr(v, "value", v)) for v in part.fields] for part in call.args[1:])
    strides = rest[0] if rest else [1] * len(axes)
    slices: list[slice] = [slice(None)] * len(source)
    flips = []
    for axis, low, high, step in zip(axes, begin, end, strides, strict=True):
        extent = source[axis]
        if step < 0:  # torch has no negative steps: flip, and count from the other end
            flips.append(axis % len(source))
            low, high = (bound + extent if -extent <= bound < 0 else bound for bound in (low, high))
            low, high, step = max(extent - 1 - low, 0), extent - 1 - high, -step
        if (low, step) == (0, 1) and high >= extent:
            continue  # everything, whatever the actual extent
        slices[axis] = slice(low, high, step)
    index = tuple(slices)
    return lambda x: (x.flip(flips) if flips else x)[index]


def _take(call: Call) -> Function:
    axis, mode = call.attrs.axis, str(call.attrs.mode)

    def run(x: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
        x, at = (x.reshape(-1), 0) if axis is None else (x, int(axis) % x.ndim)
        extent = x.shape[at]
        indices = indices.long()
        indices = indices.clamp(0, extent - 1) if mode == "clip" else indices % extent if mode == "wrap" else indices
        return x.index_select(at, indices.reshape(-1)).reshape(*x.shape[:at], *indices.shape, *x.shape[at + 1 :])

    return run


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
    "relax.split": _split,
    "relax.mean": _reduce(torch.mean),
    "relax.sum": _reduce(torch.sum),
    "relax.max": _reduce(torch.amax),
    "relax.min": _reduce(torch.amin),
    "relax.nn.pad": _pad,
    "relax.reshape": _reshape,
    "relax.flatten": _flatten,
    "relax.permute_dims": _permute_dims,
    "relax.squeeze": _squeeze,
    "relax.expand_dims": _expand_dims,
    "relax.broadcast_to": _broadcast_to,
    "relax.strided_slice": _strided_slice,
    "relax.take": _take,
    "relax.quantize": _quantize,
}
