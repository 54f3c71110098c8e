"""The operators of the executor that slide a window over an image: convolution, pooling, resizing.

Every builder takes the Relax call and returns a function of its tensor arguments. NHWC tensors are computed as permuted views in torch's
channels-last format, so no layout costs a copy. Output sizes come from the call's own type: TVM, ONNX and torch disagree on ceil mode.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from tvm.relax import Call, Expr

from tvm_rsq.blocked_product import blocked_product
from tvm_rsq.errors import UnsupportedError

Function = Callable[..., Any]
"""Of tensors: a tensor, or a tuple of them where the operator has several results."""


def static_shape(expr: Expr) -> tuple[int, ...]:
    """Shape of a Relax tensor expression. UnsupportedError: not static."""
    shape = getattr(expr.ty, "shape", None)
    if shape is None or not all(hasattr(extent, "value") for extent in shape.values):
        raise UnsupportedError(f"{expr} has shape {shape}, expected a static one; fix the shapes at import")
    return tuple(int(extent) for extent in shape.values)


def conv2d(call: Call) -> Function:
    """relax.nn.conv2d, data NCHW or NHWC, kernel OIHW, OHWI or HWIO; integer operands accumulate exactly."""
    attrs = call.attrs
    to_nchw, from_nchw = _views(attrs.data_layout)
    if attrs.out_layout not in ("", attrs.data_layout):
        raise UnsupportedError(f"conv2d writes {attrs.out_layout} from {attrs.data_layout}, expected one layout")
    kernel_axes = [str(attrs.kernel_layout).index(axis) for axis in "OIHW"]
    strides, dilation, groups = _pair(attrs.strides), _pair(attrs.dilation), int(attrs.groups)
    top, left, bottom, right = _four(attrs.padding)
    out_dtype = call.ty.dtype

    def run(data: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        data, weight = to_nchw(data), weight.permute(kernel_axes)
        integer = not data.is_floating_point()
        if integer:  # float64 holds every integer up to 2**53
            data, weight = data.double(), weight.double()
        padding = (top, left)
        if (top, left) != (bottom, right):
            data, padding = F.pad(data, (left, right, top, bottom)), (0, 0)
        if tuple(weight.shape[2:]) == (1, 1) and groups == 1 and padding == (0, 0):
            out = _pointwise(data[:, :, :: strides[0], :: strides[1]], weight[:, :, 0, 0])
        else:
            if data.shape[1] == 1:
                data, weight = _plain(data), _plain(weight)
            out = F.conv2d(data, weight, None, strides, padding, dilation, groups)
        return from_nchw(out.to(getattr(torch, str(out_dtype))) if integer else out)

    return run


def _plain(value: torch.Tensor) -> torch.Tensor:
    """(N, C, H, W) with the strides of that order. With one channel they may be those of channels last as well, from which torch 2.13
    computes some convolutions of a stride along the width alone wrongly on a CPU, and reads what is behind the image.
    """
    return value.reshape(-1).reshape(value.shape)


def _pointwise(data: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """A 1x1 convolution, the same on one thread and on a few: (N, I, H, W), (O, I) -> (N, O, H, W)."""
    pixels = data.permute(0, 2, 3, 1)
    return blocked_product(pixels.reshape(-1, data.shape[1]), weight.T).reshape(*pixels.shape[:3], -1).permute(0, 3, 1, 2)


def max_pool2d(call: Call) -> Function:
    """relax.nn.max_pool2d, NCHW or NHWC, any padding (of the lowest number), dilation and ceil mode."""
    attrs = call.attrs
    to_nchw, from_nchw = _views(attrs.layout)
    size, strides, dilation = _pair(attrs.pool_size), _pair(attrs.strides), _pair(attrs.dilation)
    spatial_in, spatial_out = _spatial(call.args[0], attrs.layout), _spatial(call, attrs.layout)
    before = _four(attrs.padding)[:2]
    reach = [d * (k - 1) + 1 for d, k in zip(dilation, size, strict=True)]
    after = _padding_after(spatial_in, spatial_out, reach, strides, before)

    def run(data: torch.Tensor) -> torch.Tensor:
        data = to_nchw(data)
        padding = before
        # torch pads by itself, but at most half a window and the same on both sides
        if any(not 0 <= a <= b <= k // 2 for a, b, k in zip(after, before, size, strict=True)):
            lowest = (torch.finfo if data.is_floating_point() else torch.iinfo)(data.dtype).min
            data, padding = F.pad(data, (before[1], max(after[1], 0), before[0], max(after[0], 0)), value=lowest), (0, 0)
        integer = not data.is_floating_point()
        out = F.max_pool2d(data.float() if integer else data, size, strides, padding, dilation)
        out = out[:, :, : spatial_out[0], : spatial_out[1]]
        return from_nchw(out.to(data.dtype) if integer else out)

    return run


def avg_pool2d(call: Call) -> Function:
    """relax.nn.avg_pool2d, NCHW or NHWC."""
    to_nchw, from_nchw = _views(call.attrs.layout)
    pool = _average(call, F.avg_pool2d)
    return lambda data: from_nchw(pool(to_nchw(data)))


def avg_pool3d(call: Call) -> Function:
    """relax.nn.avg_pool3d, NCDHW only (local response normalisation is imported as one)."""
    if call.attrs.layout != "NCDHW":
        raise UnsupportedError(f"avg_pool3d has layout {call.attrs.layout}, expected NCDHW")
    return _average(call, F.avg_pool3d)


def adaptive_avg_pool2d(call: Call) -> Function:
    """relax.nn.adaptive_avg_pool2d, NCHW or NHWC."""
    to_nchw, from_nchw = _views(call.attrs.layout)
    height, width = _spatial(call, call.attrs.layout)
    return lambda data: from_nchw(F.adaptive_avg_pool2d(to_nchw(data), (height, width)))


def resize2d(call: Call) -> Function:
    """relax.image.resize2d, nearest or linear, with TVM's coordinate transformations (the ones of ONNX)."""
    attrs = call.attrs
    to_nchw, from_nchw = _views(attrs.layout)
    sizes = zip(_spatial(call.args[0], attrs.layout), _spatial(call, attrs.layout), strict=True)
    mode = str(attrs.coordinate_transformation_mode)
    centers = [(_coordinates(mode, before, after), before) for before, after in sizes]
    if attrs.method == "nearest_neighbor":
        rounding = str(attrs.rounding_method) or ("round" if mode == "align_corners" else "floor")
        taps = [[(np.clip(_round(rounding, at), 0, extent - 1), np.ones_like(at))] for at, extent in centers]
    elif attrs.method == "linear":
        taps = [
            [(np.clip(np.floor(at) + step, 0, extent - 1), np.abs(1 - step - (at - np.floor(at)))) for step in (0, 1)]
            for at, extent in centers
        ]
    else:
        raise UnsupportedError(f"resize2d has method {attrs.method}, expected nearest_neighbor or linear")
    constants = [[(torch.from_numpy(i.astype(np.int64)), torch.from_numpy(w)) for i, w in axis] for axis in taps]

    def run(data: torch.Tensor) -> torch.Tensor:
        data = to_nchw(data)
        for axis, axis_taps in enumerate(constants, start=2):
            parts = [data.index_select(axis, index.to(data.device)) for index, _ in axis_taps]
            if len(parts) > 1:
                along = (-1, 1) if axis == 2 else (-1,)
                parts = [part * weight.to(data).reshape(along) for part, (_, weight) in zip(parts, axis_taps, strict=True)]
            data = sum(parts[1:], parts[0])
        return from_nchw(data.contiguous(memory_format=torch.channels_last))

    return run


def _views(layout: str) -> tuple[Function, Function]:
    if layout == "NCHW":
        return (lambda x: x), (lambda x: x)
    if layout == "NHWC":
        return (lambda x: x.permute(0, 3, 1, 2)), (lambda x: x.permute(0, 2, 3, 1))
    raise UnsupportedError(f"an image tensor has layout {layout}, expected NCHW or NHWC")


def _spatial(expr: object, layout: str) -> tuple[int, ...]:
    shape = static_shape(expr)
    return tuple(shape[i] for i, axis in enumerate(layout) if axis not in "NC")


def _pair(values: Sequence[int]) -> tuple[int, ...]:
    return tuple(int(v) for v in values)


def _four(padding: Sequence[int]) -> tuple[int, ...]:
    """(top, left, bottom, right) of Relax's 1, 2 or 4 numbers."""
    values = _pair(padding)
    return values * (4 // len(values))


def _padding_after(
    extents: Sequence[int], outs: Sequence[int], reach: Sequence[int], strides: Sequence[int], before: Sequence[int]
) -> tuple[int, ...]:
    """What the last window reads behind the image; negative where it stops short of the end."""
    return tuple((o - 1) * s + r - e - b for e, o, r, s, b in zip(extents, outs, reach, strides, before, strict=True))


def _average(call: Call, pool: Function) -> Function:
    """Mean over windows: over every element of the window, or only over those inside the image."""
    attrs = call.attrs
    if any(int(d) != 1 for d in attrs.dilation):
        raise UnsupportedError(f"average pooling has dilation {list(attrs.dilation)}, expected 1")
    size, strides = _pair(attrs.pool_size), _pair(attrs.strides)
    rank = len(size)
    padding = _pair(attrs.padding)
    padding = padding * (2 * rank // len(padding))
    before, behind = padding[:rank], padding[rank:]
    extents, outs = _spatial(call.args[0], attrs.layout), _spatial(call, attrs.layout)
    after = _padding_after(extents, outs, size, strides, before)
    # window elements that count, per axis and output
    counts = []
    for axis in range(rank):
        starts = np.arange(outs[axis]) * strides[axis] - before[axis]
        low, high = (-before[axis], extents[axis] + behind[axis]) if attrs.count_include_pad else (0, extents[axis])
        counts.append(np.minimum(starts + size[axis], high) - np.maximum(starts, low))
    correction = np.ones(())
    for axis in range(rank):
        correction = correction[..., None] * (size[axis] / np.maximum(counts[axis], 1))
    factor = None if np.all(correction == 1) else torch.from_numpy(correction)
    pads = [p for axis in reversed(range(rank)) for p in (before[axis], max(after[axis], 0))]
    crop = (slice(None), slice(None), *(slice(0, o) for o in outs))

    def run(data: torch.Tensor) -> torch.Tensor:
        out = pool(F.pad(data, pads) if any(pads) else data, size, strides)[crop]
        return out if factor is None else out * factor.to(out)

    return run


def _coordinates(mode: str, before: int, after: int) -> np.ndarray:
    """Where each output pixel lies in the input, float32 as TVM computes it."""
    x = np.arange(after, dtype=np.float32)
    scale = np.float32(before) / np.float32(after)
    if mode == "half_pixel":
        return (x + np.float32(0.5)) * scale - np.float32(0.5)
    if mode == "pytorch_half_pixel":
        return (x + np.float32(0.5)) * scale - np.float32(0.5) if after > 1 else np.zeros_like(x)
    if mode == "asymmetric":
        return x * scale
    if mode == "align_corners":
        return x * np.float32((before - 1) / (after - 1)) if after > 1 else np.zeros_like(x)
    if mode == "tf_half_pixel_for_nn":
        return (x + np.float32(0.5)) * scale
    raise UnsupportedError(f"resize2d has coordinate transformation {mode}, expected half_pixel, asymmetric or align_corners")


def _round(method: str, at: np.ndarray) -> np.ndarray:
    """Index of the nearest pixel; the 1e-5 are TVM's own."""
    rules: dict[str, Callable[[], np.ndarray]] = {
        "round": lambda: np.round(at),
        "round_prefer_floor": lambda: np.ceil(at - np.float32(0.5)),
        "round_prefer_ceil": lambda: np.floor(at + np.float32(0.5)),
        "floor": lambda: np.floor(at + np.float32(1e-5)),
        "ceil": lambda: np.ceil(at - np.float32(1e-5)),
    }
    if method not in rules:
        raise UnsupportedError(f"resize2d has rounding method {method}, expected one of {sorted(rules)}")
    return rules[method]()
