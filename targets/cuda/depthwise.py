"""Depthwise convolution of bytes: a thread takes four neighbouring channels, one word, of some output pixels of a row.

A row of the window is loaded once for all of these pixels. Products are of 32 bits: no tensor core has a use for one channel.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from tvm import tirx
from tvm.ir import Expr
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T

from tvm_rsq.targets.carrier import offset
from tvm_rsq.targets.cuda.lane_epilogue import LaneEpilogue
from tvm_rsq.targets.generic.depthwise import DepthwiseTile
from tvm_rsq.targets.generic.staging import flat
from tvm_rsq.targets.kernel import Kernel
from tvm_rsq.targets.workload import Conv2DWorkload

_THREADS = 128  # of a block
_ENOUGH = 1 << 16  # threads, which hide each other's waiting; with more pixels each there would be fewer
_COLS = (8, 4, 2, 1)  # output pixels of a thread


def depthwise_space(w: Conv2DWorkload) -> tuple[DepthwiseTile, ...]:
    """Words where channels fill them. The untuned choice has as many pixels a thread as leave enough threads."""
    lanes = 4 if w.in_channels % 4 == 0 else 1
    threads = w.batch * w.out_height * w.out_width * w.in_channels // lanes
    fitting = [cols for cols in _COLS if cols <= w.out_width]
    untuned = next((cols for cols in fitting if threads // cols >= _ENOUGH), 1)
    return tuple(DepthwiseTile(lanes=lanes, cols=cols) for cols in dict.fromkeys([untuned, *fitting]))


def depthwise(w: Conv2DWorkload, tile: DepthwiseTile) -> Kernel:
    """The kernel of the depthwise workload `w`, whose activations and weights are int8.   ValueError: a tile that does not fit"""
    if tile.method != "widen" or tile.lanes not in (1, 4) or w.in_channels % tile.lanes or not 0 < tile.cols <= w.out_width:
        raise ValueError(f"choice {tile} does not fit {w}, expected lanes of a whole word or one; take one of conv2d_space")
    return Kernel(
        name=f"depthwise_words_{tile.cols}x{tile.lanes}", prim_func=_DepthwiseKernel(w, tile).prim_func(), pack_weight=_pack,
        spread=(1, math.prod(w.kernel), w.in_channels, 1),
    )  # fmt: skip


def _pack(weight: np.ndarray) -> np.ndarray:
    """(C, KH, KW, 1) -> KH * KW * C, flat."""
    return np.ascontiguousarray(weight[..., 0].transpose(1, 2, 0)).reshape(-1)


@dataclass(frozen=True)
class _DepthwiseKernel:
    w: Conv2DWorkload
    tile: DepthwiseTile

    def prim_func(self) -> tirx.PrimFunc:
        w, tile = self.w, self.tile
        groups, strips = w.in_channels // tile.lanes, -(-w.out_width // tile.cols)
        items = w.batch * w.out_height * strips * groups
        with IRBuilder() as builder:
            with T.prim_func(s_tir=True):
                T.func_attr({"tirx.noalias": True, "tirx.is_scheduled": True, "global_symbol": "main"})
                image = (w.batch, w.height, w.width, w.in_channels)
                data = T.arg("data", T.buffer(image, w.in_dtype))
                weight = T.arg("weight", T.buffer((math.prod(w.kernel) * w.in_channels,), "int8"))
                # To the epilogue, channels of one group: it counts them in their group.
                finish = LaneEpilogue(w, tile.lanes, groups=1)
                data = flat(data, math.prod(image), w.in_dtype)
                finish.flatten()
                with (
                    T.thread_binding(-(-items // _THREADS), thread="blockIdx.x") as block,
                    T.thread_binding(_THREADS, thread="threadIdx.x") as thread,
                ):
                    item = T.bind(block * _THREADS + thread)
                    with T.If(item < items), T.Then():
                        channel = T.bind(tirx.floormod(item, groups) * tile.lanes)
                        strip = T.bind(tirx.floordiv(item, groups))
                        line = T.bind(tirx.floordiv(strip, strips))  # of all images
                        col = T.bind((strip - line * strips) * tile.cols)
                        sums = self._sums(data, weight, channel, line, col)
                        pixels = [
                            (line * w.out_width + col + i, None if w.out_width % tile.cols == 0 else col + i < w.out_width)
                            for i in range(tile.cols)
                        ]
                        finish.emit(lambda pixel, lane: sums[pixel * tile.lanes + lane], pixels, channel, tirx.const(0, "int32"))
        return builder.get()

    def _sums(self, data: Expr, weight: Expr, channel: Expr, line: Expr, col: Expr) -> Expr:
        w, tile = self.w, self.tile
        sums = T.alloc_buffer((tile.cols * tile.lanes,), "int32", scope="local")
        for i in range(tile.cols * tile.lanes):
            T.buffer_store(sums, 0, [i])
        image = T.bind(tirx.floordiv(line, w.out_height))
        top = T.bind((line - image * w.out_height) * w.stride[0] - w.padding[0])
        left = T.bind(col * w.stride[1] - w.padding[1])
        used = sorted({i * w.stride[1] + k * w.dilation[1] for i in range(tile.cols) for k in range(w.kernel[1])})
        with T.serial(w.kernel[0]) as tap:
            row = T.bind(top + tap * w.dilation[0])
            start = T.bind(((image * w.height + row) * w.width + left) * w.in_channels + channel)
            inside = [row >= 0, row < w.height]
            values = {}
            for place in used:
                at = tirx.all(*inside, left + place >= 0, left + place < w.width)
                values[place] = self._widened(data, start + place * w.in_channels, at)
            for k in range(w.kernel[1]):
                weights = self._widened(weight, (tap * w.kernel[1] + k) * w.in_channels + channel, None)
                for i in range(tile.cols):
                    for c in range(tile.lanes):
                        x, at = values[i * w.stride[1] + k * w.dilation[1]][c], i * tile.lanes + c
                        T.buffer_store(sums, sums[at] + x * weights[c], [at])
        return sums

    def _widened(self, source: Expr, at: Expr, there: Expr | None) -> list[Expr]:
        """int32, one for each lane: what is stored, or the zero point as it is stored where there is nothing."""
        lanes = self.tile.lanes
        word = source[at].astype("int32") if lanes == 1 else tirx.reinterpret("int32", source.vload([at], "int8x4"))
        if there is not None:
            zero_point = self.w.input_zero_point - offset(self.w.in_dtype)
            pad = zero_point if lanes == 1 else int.from_bytes(bytes([zero_point & 0xFF]) * 4, "little", signed=True)
            word = tirx.if_then_else(there, word, tirx.const(pad, "int32"))
        word = T.bind(word)
        if lanes == 1:
            return [word]
        return [T.bind(word << tirx.const(24 - 8 * i, "int32") >> tirx.const(24, "int32")) for i in range(lanes)]
