"""Float convolution of any kind, for networks and layers that stay in float: a thread takes a few pixels and one or four channels.

Threads of a warp take neighbouring channels: they read the same pixels, and weights next to each other. Products are added by fma in the
order of taps and channels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from tvm import tirx
from tvm.ir import Expr
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T

from tvm_rsq.targets import numerics
from tvm_rsq.targets.cuda.lane_epilogue import FORM
from tvm_rsq.targets.epilogue import finish_float
from tvm_rsq.targets.generic.depthwise import DepthwiseTile
from tvm_rsq.targets.generic.staging import flat
from tvm_rsq.targets.kernel import Kernel
from tvm_rsq.targets.workload import Conv2DWorkload

_THREADS = 128  # of a block
_ENOUGH = 1 << 15  # threads
_PIXELS = (8, 4, 2)  # of a thread
_UNROLLED = 4  # input channels at a time


def float_tile(w: Conv2DWorkload) -> DepthwiseTile:
    """lanes channels and cols pixels of a thread, as many as leave enough threads."""
    lanes = 4 if w.out_channels // w.groups % 4 == 0 else 1
    threads = w.batch * w.out_height * w.out_width * w.out_channels // lanes
    return DepthwiseTile(lanes=lanes, cols=next((cols for cols in _PIXELS if threads // cols >= _ENOUGH), 1))


def float_conv(w: Conv2DWorkload, tile: DepthwiseTile) -> Kernel:
    """The kernel of `w`, float32.   ValueError: a tile that does not fit"""
    if tile.method != "widen" or tile.cols < 1 or tile.lanes < 1 or w.out_channels // w.groups % tile.lanes:
        raise ValueError(f"choice {tile} does not fit {w}, expected lanes that divide the channels of a group; take one of conv2d_space")
    kind = "depthwise" if w.is_depthwise else "conv2d"
    name = f"{kind}_float_{tile.cols}x{tile.lanes}"
    inner = w.in_channels // w.groups
    return Kernel(
        name=name, prim_func=_FloatKernel(w, tile.lanes, tile.cols).prim_func(), pack_weight=_pack,
        spread=(1, math.prod(w.kernel) * inner, w.out_channels, 1),
    )  # fmt: skip


def _pack(weight: np.ndarray) -> np.ndarray:
    """OHWI -> HWIO, flat."""
    return np.ascontiguousarray(weight.transpose(1, 2, 3, 0)).reshape(-1)


@dataclass(frozen=True)
class _FloatKernel:
    w: Conv2DWorkload
    lanes: int
    pixels: int

    def prim_func(self) -> tirx.PrimFunc:
        w, lanes = self.w, self.lanes
        image, e = (w.batch, w.height, w.width, w.in_channels), w.epilogue
        count = w.batch * w.out_height * w.out_width
        inner, blocks = w.in_channels // w.groups, w.out_channels // lanes
        items = -(-count // self.pixels) * blocks
        with IRBuilder() as builder:
            with T.prim_func(s_tir=True):
                T.func_attr({"tirx.noalias": True, "tirx.is_scheduled": True, "global_symbol": "main"})
                data = T.arg("data", T.buffer(image, "float32"))
                weight = T.arg("weight", T.buffer((math.prod(w.kernel) * inner * w.out_channels,), "float32"))
                bias = T.arg("bias", T.buffer((w.out_channels,), "float32"))
                shape = (w.batch, w.out_height, w.out_width, w.out_channels)
                residual = T.arg("residual", T.buffer(shape, "float32")) if e.residual else None
                output = T.arg("output", T.buffer(w.out_shape, "float32"))
                data, output = flat(data, math.prod(image), "float32"), flat(output, math.prod(w.out_shape), "float32")
                residual = None if residual is None else flat(residual, math.prod(shape), "float32")
                with (
                    T.thread_binding(-(-items // _THREADS), thread="blockIdx.x") as block,
                    T.thread_binding(_THREADS, thread="threadIdx.x") as thread,
                ):
                    item = T.bind(block * _THREADS + thread)
                    with T.If(item < items), T.Then():
                        channel = T.bind(tirx.floormod(item, blocks) * lanes)
                        first = T.bind(tirx.floordiv(item, blocks) * self.pixels)
                        sums = self._sums(data, weight, bias, channel, first, count)
                        for i in range(self.pixels):
                            with T.If(first + i < count), T.Then():
                                for c in range(lanes):
                                    at = (first + i) * w.out_channels + channel + c
                                    r = None if residual is None else residual[at]
                                    place = (first + i) * w.out_shape[3] + (w.out_offset + channel + c)
                                    T.buffer_store(output, finish_float(sums[i * lanes + c], r, e), [place])
        return builder.get()

    def _sums(self, data: Expr, weight: Expr, bias: Expr, channel: Expr, first: Expr, count: int) -> Expr:
        w, lanes = self.w, self.lanes
        inner = w.in_channels // w.groups
        sums = T.alloc_buffer((self.pixels * lanes,), "float32", scope="local")
        for i in range(self.pixels):
            for c in range(lanes):
                T.buffer_store(sums, bias[channel + c], [i * lanes + c])
        from_channel = tirx.const(0, "int32")
        if w.groups > 1:
            from_channel = T.bind(tirx.floordiv(channel, w.out_channels // w.groups) * inner)
        windows = []
        for i in range(self.pixels):
            m = T.bind(tirx.min(first + i, count - 1))
            number, rest = tirx.floordiv(m, w.out_height * w.out_width), tirx.floormod(m, w.out_height * w.out_width)
            top = T.bind(tirx.floordiv(rest, w.out_width) * w.stride[0] - w.padding[0])
            left = T.bind(tirx.floormod(rest, w.out_width) * w.stride[1] - w.padding[1])
            windows.append((top, left, T.bind(((number * w.height + top) * w.width + left) * w.in_channels + from_channel)))
        step = _UNROLLED if inner % _UNROLLED == 0 else 1
        with T.serial(w.kernel[0]) as tap_row, T.serial(w.kernel[1]) as tap_col:
            down, right = T.bind(tap_row * w.dilation[0]), T.bind(tap_col * w.dilation[1])
            there = T.bind((down * w.width + right) * w.in_channels)
            inside = [
                T.bind(tirx.all(top + down >= 0, top + down < w.height, left + right >= 0, left + right < w.width))
                for top, left, _ in windows
            ]
            tap = T.bind((tap_row * w.kernel[1] + tap_col) * inner)
            with T.serial(inner // step) as part:
                at = T.bind(part * step)
                values = [
                    [T.bind(tirx.if_then_else(ok, data[origin + there + at + k], tirx.const(0.0, "float32"))) for k in range(step)]
                    for (_, _, origin), ok in zip(windows, inside, strict=True)
                ]
                for k in range(step):
                    start = T.bind((tap + at + k) * w.out_channels + channel)
                    weights = [T.bind(weight[start + c]) for c in range(lanes)]
                    for i in range(self.pixels):
                        for c in range(lanes):
                            place = i * lanes + c
                            T.buffer_store(sums, numerics.fma(values[i][k], weights[c], sums[place], form=FORM), [place])
        return sums
