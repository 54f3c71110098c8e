"""Depthwise convolution (one filter a channel) for any CPU, quantized and float32.

    parallel over rows, then channel blocks, then tiles of `cols` pixels x `lanes` channels: all taps unrolled, the sums in registers

Channels and columns that do not divide overlap, as in generic/conv2d.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tvm import tirx
from tvm.ir import Expr
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T
from tvm.tirx import PrimFunc

from tvm_rsq.targets.generic.choice_checks import check_choice
from tvm_rsq.targets.generic.conv_geometry import ConvGeometry, conv_geometry
from tvm_rsq.targets.generic.narrow import Narrow
from tvm_rsq.targets.generic.operands import Operands
from tvm_rsq.targets.generic.pack import pack_depthwise
from tvm_rsq.targets.generic.staging import stage_input
from tvm_rsq.targets.generic.steps import vector
from tvm_rsq.targets.generic.tiles import lanes_for
from tvm_rsq.targets.generic.wrapping import wrapping_sum
from tvm_rsq.targets.kernel import Kernel
from tvm_rsq.targets.numerics import RequantizeForm
from tvm_rsq.targets.workload import Conv2DWorkload

# Taps up to this many are unrolled; larger filters loop, to keep the code small.
_UNROLLED_TAPS = 25


Method = Literal["widen", "pairs", "quads", "taps"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DepthwiseTile:
    """cols output pixels x lanes channels at a time.

    method   "widen", on any CPU: products as int32 or float32, all sums of a tile in registers
             "pairs", "quads", uint8 on x86-64: two rows at a time by pmaddwd or vpdpwssd, four by vpdpbusd; lanes 16, 32 or 64, a quarter
             of which fills a vector; cols even
             "quads", "taps", int8 on aarch64: four rows at a time by sdot; two taps and more summed in int16 by smlal; lanes 16
    strip, segment    "pairs", "quads": output rows and columns that share one staged input
    blocks            "pairs", "quads": blocks of `lanes` channels that a parallel task computes one after the other
    """

    lanes: int
    cols: int
    method: Method = "widen"
    strip: int = 1
    segment: int = 1
    blocks: int = 1


def depthwise(w: Conv2DWorkload, form: RequantizeForm, *, vector_bytes: int, narrow: Narrow, tile: DepthwiseTile | None = None) -> Kernel:
    """The kernel of the depthwise workload `w` on a CPU with vectors of `vector_bytes`.   ValueError: a tile that does not fit."""
    tile = tile or default_depthwise_tile(w, vector_bytes)
    check_choice(tile)
    if tile.method != "widen":
        raise ValueError(f"choice {tile} does not fit {w} here, expected method='widen'; take one of conv2d_space")
    if tile.lanes > w.in_channels or tile.cols > w.out_width:
        raise ValueError(f"{tile} is larger than the {w.in_channels} channels or {w.out_width} columns; take one of conv2d_space")
    kind = "float" if w.in_dtype == "float32" else "widen"
    name = f"depthwise_{kind}_{tile.cols}x{tile.lanes}"
    spread = 1, w.kernel[0] * w.kernel[1], w.in_channels, 1
    return Kernel(name=name, prim_func=_prim_func(w, tile, form, narrow), pack_weight=pack_depthwise, spread=spread)


def default_depthwise_tile(w: Conv2DWorkload, vector_bytes: int) -> DepthwiseTile:
    """The untuned choice: one or two vectors of channels, and columns that divide well."""
    lanes = lanes_for(w.in_channels, 16 if w.in_dtype != "float32" else max(vector_bytes // 4, 8))
    # Sums of 16 lanes take 64 bytes each; half of the register file is left to pixels and weights.
    most = max(1, min(w.out_width, 8 if vector_bytes == 64 else 4))
    cols = min(range(1, most + 1), key=lambda c: (-(-w.out_width // c) * (c + 1), -c))
    return DepthwiseTile(lanes=lanes, cols=cols)


def _prim_func(w: Conv2DWorkload, tile: DepthwiseTile, form: RequantizeForm, narrow: Narrow) -> PrimFunc:
    channels, lanes = w.in_channels, tile.lanes
    g = conv_geometry(w)
    blocks, tiles = -(-channels // lanes), -(-g.out_cols // tile.cols)
    acc_dtype = "float32" if w.in_dtype == "float32" else "int32"
    weight_dtype = "float32" if w.in_dtype == "float32" else "int8"
    taps = w.kernel[0] * w.kernel[1]
    with IRBuilder() as builder:
        with T.prim_func(s_tir=True):
            T.func_attr({"tirx.noalias": True, "global_symbol": "main"})
            operands = Operands(w, (w.kernel[0], w.kernel[1], channels), weight_dtype, form, narrow)
            data = stage_input(operands.data, w, g, dtype=w.in_dtype, depth=1)
            with T.parallel(g.images * g.out_rows) as line:
                image, out_row = tirx.floordiv(line, g.out_rows), tirx.floormod(line, g.out_rows)
                with T.serial(blocks) as block, T.serial(tiles) as t:
                    acc = T.alloc_buffer((tile.cols * lanes,), acc_dtype)
                    channel = tirx.min(block * lanes, channels - lanes) if blocks * lanes > channels else block * lanes
                    col = tirx.min(t * tile.cols, g.out_cols - tile.cols) if tiles * tile.cols > g.out_cols else t * tile.cols
                    base = image * g.image_step + out_row * g.row_step + col * g.col_step + channel
                    for x in range(tile.cols):
                        T.buffer_store(acc, operands.start(lanes, channel), [_at(x, lanes)])
                    if taps <= _UNROLLED_TAPS:
                        for kh in range(w.kernel[0]):
                            for kw in range(w.kernel[1]):
                                _tap(acc, data, operands.weight, base, kh, kw, channel, w, g, tile, acc_dtype)
                    else:
                        with T.serial(w.kernel[0]) as kh, T.serial(w.kernel[1]) as kw:
                            _tap(acc, data, operands.weight, base, kh, kw, channel, w, g, tile, acc_dtype)
                    for x in range(tile.cols):
                        operands.store(acc, lanes, x * lanes, line * g.out_cols + col + x, channel)
    return builder.get()


def _at(position: int, lanes: int) -> Expr | int:
    return tirx.Ramp(position * lanes, 1, lanes) if lanes > 1 else position


def _tap(
    acc: Expr, data: Expr, weight: Expr, base: Expr, kh: Expr | int, kw: Expr | int, channel: Expr, w: Conv2DWorkload, g: ConvGeometry,
    tile: DepthwiseTile, acc_dtype: str,
) -> None:  # fmt: skip
    """Emit: acc += pixel * weight for one tap of every column."""
    lanes = tile.lanes
    wide = vector(acc_dtype, lanes)
    weights = weight.vload([kh, kw, channel], vector(str(weight.dtype), lanes)).astype(wide)
    for x in range(tile.cols):
        at = base + kh * g.tap_h_step + kw * g.tap_w_step + x * g.col_step
        pixel = data.vload([at], vector(w.in_dtype, lanes)).astype(wide)
        old, product = acc.vload([x * lanes], wide), pixel * weights
        T.buffer_store(acc, wrapping_sum(old, product) if acc_dtype == "int32" else old + product, [_at(x, lanes)])
