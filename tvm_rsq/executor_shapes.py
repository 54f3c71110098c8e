"""The operators of the executor that move values and change shapes.

Every builder takes the Relax call and returns a function of its tensor arguments. The IR's shapes are static but the batch is not: where a
static shape names the batch, the actual one is put in.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from tvm.relax import Call

from tvm_rsq.errors import UnsupportedError
from tvm_rsq.executor_windows import Function, static_shape


def split(call: Call) -> Function:
    axis = int(call.attrs.axis)
    sizes = [int(field.shape.values[axis]) for field in call.ty.fields]
    return lambda x: tuple(torch.split(x, sizes, axis))


def pad(call: Call) -> Function:
    attrs = call.attrs
    if attrs.pad_mode != "constant":
        raise UnsupportedError(f"pad has mode {attrs.pad_mode}, expected constant")
    widths, value = [int(w) for w in attrs.pad_width], float(attrs.pad_value)
    pairs = [w for axis in reversed(range(len(widths) // 2)) for w in widths[2 * axis : 2 * axis + 2]]
    return lambda x: F.pad(x, pairs, value=value)


def reshape(call: Call) -> Function:
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


def flatten(call: Call) -> Function:
    source = static_shape(call.args[0])

    def run(x: torch.Tensor) -> torch.Tensor:
        return x.reshape(-1 if tuple(x.shape) == source else _with_batch(call, x.shape, source, static_shape(call)))

    return run


def permute_dims(call: Call) -> Function:
    axes = call.attrs.axes
    order = tuple(reversed(range(len(static_shape(call.args[0]))))) if axes is None else tuple(int(a) for a in axes)
    return lambda x: x.permute(order)


def squeeze(call: Call) -> Function:
    source = static_shape(call.args[0])
    axes = call.attrs.axis
    gone = tuple(i for i, extent in enumerate(source) if extent == 1) if axes is None else tuple(int(a) % len(source) for a in axes)

    def run(x: torch.Tensor) -> torch.Tensor:
        if any(x.shape[axis] != 1 for axis in gone):
            raise UnsupportedError(f"squeeze of axes {list(gone)} got shape {list(x.shape)}: the batch would vanish; run with batch 1")
        return x.squeeze(gone)

    return run


def expand_dims(call: Call) -> Function:
    rank = len(static_shape(call))
    axes = sorted(int(a) % rank for a in call.attrs.axis)

    def run(x: torch.Tensor) -> torch.Tensor:
        for axis in axes:
            x = x.unsqueeze(axis)
        return x

    return run


def broadcast_to(call: Call) -> Function:
    source, target = static_shape(call.args[0]), static_shape(call)

    def run(x: torch.Tensor) -> torch.Tensor:
        shape = list(target)
        for back, (actual, static) in enumerate(zip(reversed(x.shape), reversed(source), strict=True), start=1):
            if actual != static:
                shape[-back] = actual
        return x.expand(shape)

    return run


def strided_slice(call: Call) -> Function:
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


def take(call: Call) -> Function:
    axis, mode = call.attrs.axis, str(call.attrs.mode)

    def run(x: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
        x, at = (x.reshape(-1), 0) if axis is None else (x, int(axis) % x.ndim)
        extent = x.shape[at]
        indices = indices.long()
        indices = indices.clamp(0, extent - 1) if mode == "clip" else indices % extent if mode == "wrap" else indices
        return x.index_select(at, indices.reshape(-1)).reshape(*x.shape[:at], *indices.shape, *x.shape[at + 1 :])

    return run
