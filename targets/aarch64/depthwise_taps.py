"""Depthwise convolution by smull, smlal and saddw: products of a few taps are summed in int16, then widened, exact.

    parallel over output rows, then blocks of 16 channels, then tiles of `cols` pixels:
        for every 2, 4 or 8 taps:    int16 sums of their products, added to int32 sums

Two products always fit: 2 * 128 * 127 < 2^15; more where the weights promise it (`accumulate16`). Channels and columns that do not divide
overlap, as in generic/conv2d.py.
"""

from __future__ import annotations

from itertools import product

from tvm import tirx
from tvm.ir import Expr
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T
from tvm.tirx import PrimFunc

from tvm_rsq.targets.generic.choice_checks import check_choice
from tvm_rsq.targets.generic.conv_geometry import conv_geometry
from tvm_rsq.targets.generic.depthwise import DepthwiseTile
from tvm_rsq.targets.generic.narrow import Narrow
from tvm_rsq.targets.generic.operands import Operands
from tvm_rsq.targets.generic.pack import pack_depthwise
from tvm_rsq.targets.generic.row_groups import overlapping
from tvm_rsq.targets.generic.staging import stage_input
from tvm_rsq.targets.generic.wrapping import wrapping_sum
from tvm_rsq.targets.kernel import Kernel
from tvm_rsq.targets.numerics import RequantizeForm
from tvm_rsq.targets.workload import Conv2DWorkload, summed_products

LANES = 16
SUMMED = (32, 64)  # what accumulate16 may be for more than two products to be summed
MOST_TAPS = 81  # all are unrolled


def depthwise_taps(w: Conv2DWorkload, form: RequantizeForm, narrow: Narrow, tile: DepthwiseTile) -> Kernel:
    """The kernel of the int8 depthwise workload `w`.   ValueError: a tile that does not fit it."""
    check_choice(tile)
    taps = w.kernel[0] * w.kernel[1]
    if tile.method != "taps" or tile.lanes != LANES or w.in_channels < LANES or tile.cols > w.out_width or taps > MOST_TAPS:
        raise ValueError(f"choice {tile} does not fit {w}; take one of conv2d_space")
    name = f"depthwise_smlal{taps_summed(w)}_{tile.cols}"
    spread = 1, taps, w.in_channels, 1
    return Kernel(name=name, prim_func=_prim_func(w, tile, form, narrow), pack_weight=pack_depthwise, spread=spread)


def taps_summed(w: Conv2DWorkload) -> int:
    """Whose products are summed in int16."""
    return max(2, summed_products(w.accumulate16) if w.accumulate16 in SUMMED else 0)


def _prim_func(w: Conv2DWorkload, tile: DepthwiseTile, form: RequantizeForm, narrow: Narrow) -> PrimFunc:
    g, channels = conv_geometry(w), w.in_channels
    taps = list(product(range(w.kernel[0]), range(w.kernel[1])))
    some = taps_summed(w)
    with IRBuilder() as builder:
        with T.prim_func(s_tir=True):
            T.func_attr({"tirx.noalias": True, "global_symbol": "main"})
            operands = Operands(w, (w.kernel[0], w.kernel[1], channels), "int8", form, narrow)
            data = stage_input(operands.data, w, g, dtype=w.in_dtype, depth=1)
            with T.parallel(g.images * g.out_rows) as line:
                image, out_row = tirx.floordiv(line, g.out_rows), tirx.floormod(line, g.out_rows)
                with T.serial(-(-channels // LANES)) as block, T.serial(-(-g.out_cols // tile.cols)) as t:
                    channel, col = overlapping(block, LANES, channels), overlapping(t, tile.cols, g.out_cols)
                    base = image * g.image_step + out_row * g.row_step + col * g.col_step + channel
                    start = [T.bind(operands.start(8, channel + half)) for half in (0, 8)]
                    sums = [list(start) for _ in range(tile.cols)]
                    for first in range(0, len(taps), some):
                        group = taps[first : first + some]
                        weights = [T.bind(operands.weight.vload([kh, kw, channel], "int8x16")) for kh, kw in group]
                        for x, total in enumerate(sums):
                            starts = [base + kh * g.tap_h_step + kw * g.tap_w_step + x * g.col_step for kh, kw in group]
                            pixels = [T.bind(data.vload([at], "int8x16")) for at in starts]
                            for half in (0, 1):
                                total[half] = _summed(total[half], pixels, weights, 8 * half)
                    for x, total in enumerate(sums):
                        acc = T.alloc_buffer((LANES,), "int32")
                        for half in (0, 1):
                            T.buffer_store(acc, total[half], [tirx.Ramp(8 * half, 1, 8)])
                        operands.store(acc, 4, 0, line * g.out_cols + col + x, channel, 4)
    return builder.get()


def _summed(total: Expr, pixels: list[Expr], weights: list[Expr], first: int) -> Expr:
    """int32x8: total and the products of lanes first ... first + 7, which are summed in int16."""
    products = [
        tirx.call_llvm_pure_intrin("int16x8", "llvm.aarch64.neon.smull.v8i16", _half(p, first), _half(v, first))
        for p, v in zip(pixels, weights, strict=True)
    ]
    return T.bind(wrapping_sum(total, sum(products[1:], products[0]).astype("int32x8")))


def _half(value: Expr, first: int) -> Expr:
    return tirx.Shuffle([value], [tirx.const(i, "int32") for i in range(first, first + 8)])
