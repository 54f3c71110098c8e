"""Depthwise convolution by sdot: four adjacent rows of a channel are one lane of it, exact in int32.

    parallel over (strip of output rows, segment of columns, blocks of 16 channels)
        for each block of channels:
            stage    the strip's input rows 2j ... 2j + 3, interleaved, padded with the zero point (generic/row_groups.py)
            for each half of them, each output row, each tile of `cols` columns:
                every sum += sdot(rows of a column, weights), then the epilogue

Rows of a group that the filter does not reach have the weight 0. The weights of a half stay in registers through a row; those of a whole
block would leave none for the sums. Rows, columns and channels that do not divide overlap, as in generic/conv2d.py.
"""

from __future__ import annotations

import numpy as np
from tvm import tirx
from tvm.ir import Expr
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T
from tvm.tirx import PrimFunc

from tvm_rsq.targets.generic.choice_checks import check_choice
from tvm_rsq.targets.generic.depthwise import DepthwiseTile
from tvm_rsq.targets.generic.narrow import Narrow
from tvm_rsq.targets.generic.operands import Operands
from tvm_rsq.targets.generic.row_groups import RowGroups, overlapping
from tvm_rsq.targets.generic.staging import flat
from tvm_rsq.targets.kernel import Kernel
from tvm_rsq.targets.numerics import RequantizeForm
from tvm_rsq.targets.workload import Conv2DWorkload

LANES = 16
_HALVES, _VECTORS = 2, 2  # of a block, and of a half
_SDOT = "llvm.aarch64.neon.sdot.v4i32.v16i8"


def depthwise_quads(w: Conv2DWorkload, form: RequantizeForm, narrow: Narrow, tile: DepthwiseTile) -> Kernel:
    """The kernel of the int8 depthwise workload `w`, which has no dilation along H.   ValueError: a tile that does not fit it."""
    check_choice(tile)
    groups = RowGroups.of(w, tile, together=True)
    in_range = tile.cols <= tile.segment <= w.out_width and tile.strip <= w.out_height and tile.blocks <= groups.blocks
    if tile.method != "quads" or tile.lanes != LANES or w.in_channels < LANES or w.dilation[0] != 1 or not in_range:
        raise ValueError(f"choice {tile} does not fit {w}; take one of conv2d_space")
    name = f"depthwise_sdot_{tile.cols}_{tile.strip}x{tile.segment}"
    spread = groups.blocks, groups.parities * groups.planes * w.kernel[1], LANES, 4
    return Kernel(
        name=name, prim_func=_prim_func(w, groups, tile, form, narrow), pack_weight=lambda weight: _pack(weight, groups), spread=spread
    )


def _pack(weight: np.ndarray, groups: RowGroups) -> np.ndarray:
    """(C, KH, KW, 1) -> (blocks, parities, planes, KW, LANES, 4), flat: the filter as it meets the rows of a group."""
    channels, rows, cols = weight.shape[:3]
    starts = np.minimum(np.arange(groups.blocks) * LANES, channels - LANES)
    padded = np.zeros((groups.parities, channels, 4 * groups.planes, cols), np.int8)
    for parity in range(groups.parities):
        padded[parity, :, parity : parity + rows] = weight[..., 0]
    picked = padded[:, np.add.outer(starts, np.arange(LANES)).reshape(-1)]
    shape = (groups.parities, groups.blocks, LANES, groups.planes, 4, cols)
    return np.ascontiguousarray(picked.reshape(shape).transpose(1, 0, 3, 5, 2, 4)).reshape(-1)


def _prim_func(w: Conv2DWorkload, groups: RowGroups, tile: DepthwiseTile, form: RequantizeForm, narrow: Narrow) -> PrimFunc:
    filter_size = groups.planes * w.kernel[1] * 4 * LANES
    tiles, shares = -(-tile.segment // tile.cols), -(-groups.blocks // tile.blocks)
    with IRBuilder() as builder:
        with T.prim_func(s_tir=True):
            T.func_attr({"tirx.noalias": True, "global_symbol": "main"})
            operands = Operands(w, (groups.blocks * groups.parities * filter_size,), "int8", form, narrow)
            data = flat(operands.data, w.batch * w.height * w.width * w.in_channels, w.in_dtype)
            with T.parallel(w.batch * groups.strips * groups.segments * shares) as task:
                area, share = tirx.floordiv(task, shares), tirx.floormod(task, shares)
                line, segment = tirx.floordiv(area, groups.segments), tirx.floormod(area, groups.segments)
                image, strip = tirx.floordiv(line, groups.strips), tirx.floormod(line, groups.strips)
                top, left = overlapping(strip, tile.strip, w.out_height), overlapping(segment, tile.segment, w.out_width)
                corner = (top * w.stride[0] - w.padding[0], left * w.stride[1] - w.padding[1])
                staged = T.alloc_buffer((groups.staged_size,), groups.dtype)
                with T.serial(tile.blocks) as b:
                    block = overlapping(share, tile.blocks, groups.blocks) + b
                    channel = overlapping(block, LANES, w.in_channels)
                    groups.stage(staged, data, image, corner, channel)
                    with T.serial(_HALVES) as half, T.serial(tile.strip) as r:
                        parity = tirx.floormod(r * w.stride[0], 2) if groups.parities == 2 else 0
                        plane_at = tirx.floordiv(r * w.stride[0], 2) * (groups.cols_in * groups.column)
                        weight_at = (block * groups.parities + parity) * filter_size + half * (_VECTORS * 16)
                        row = (image * w.out_height + top + r) * w.out_width + left
                        own = channel + half * (_VECTORS * 4)
                        start = [T.bind(operands.start(4, own + 4 * v)) for v in range(_VECTORS)]
                        with T.serial(tiles) as t:
                            col = overlapping(t, tile.cols, tile.segment)
                            at = plane_at + col * (w.stride[1] * groups.column) + half * (_VECTORS * groups.vector)
                            for x, values in enumerate(_sums(start, groups, tile.cols, staged, at, operands.weight, weight_at)):
                                acc = T.alloc_buffer((4 * _VECTORS,), "int32")
                                for v, value in enumerate(values):
                                    T.buffer_store(acc, value, [tirx.Ramp(4 * v, 1, 4)])
                                operands.store(acc, 4, 0, row + col + x, own, _VECTORS)
    return builder.get()


def _sums(
    start: list[Expr], groups: RowGroups, cols: int, staged: Expr, staged_at: Expr, weight: Expr, weight_at: Expr
) -> list[list[Expr]]:
    """The vectors of each of `cols` adjacent columns; the first plane begins at staged_at."""
    w = groups.workload
    sums = [list(start) for _ in range(cols)]
    dilation = w.dilation[1]
    for plane in range(groups.planes):
        weights = [
            [T.bind(weight.vload([weight_at + ((plane * w.kernel[1] + kw) * 4 + v) * 16], "int8x16")) for v in range(_VECTORS)]
            for kw in range(w.kernel[1])
        ]
        for position in range((cols - 1) * w.stride[1] + (w.kernel[1] - 1) * dilation + 1):
            taps = [(x, *divmod(position - x * w.stride[1], dilation)) for x in range(cols)]
            used = [(x, kw) for x, kw, rest in taps if rest == 0 and 0 <= kw < w.kernel[1]]
            at = staged_at + (plane * groups.plane_step * groups.cols_in + position) * groups.column
            for v in range(_VECTORS) if used else ():
                pixels = T.bind(staged.vload([at + v * groups.vector], "int8x16"))
                for x, kw in used:
                    sums[x][v] = tirx.call_llvm_pure_intrin("int32x4", _SDOT, sums[x][v], pixels, weights[kw][v])
    return sums
