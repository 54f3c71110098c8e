"""Depthwise convolution by pmaddwd or vpdpwssd: two rows of a column at a time, exact in int32.

    parallel over (strip of output rows, segment of columns, blocks of channels)
        for each block of channels:
            stage    input rows 2j and 2j + 1 of the strip, interleaved: int16 pairs (upper, lower), padded with the zero point
            for each output row, each of the four vectors of the block (its weights in registers), each tile of `cols` columns:
                every sum += step(pair, (upper weight, lower weight)), then the epilogue

Where the first or last row of a filter has no partner in its plane, the partner's weight is 0. Every staged pair serves all columns and
rows that it belongs to. Everything is interleaved within 128 bits, as unpack and pack instructions do: vector i of a block is channels
4i ... 4i + 3 of each 16. Rows, columns and channels that do not divide overlap, as in generic/conv2d.py.
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
from tvm_rsq.targets.generic.operands import Operands
from tvm_rsq.targets.generic.staging import flat
from tvm_rsq.targets.generic.steps import ConvStep
from tvm_rsq.targets.kernel import Kernel
from tvm_rsq.targets.numerics import RequantizeForm
from tvm_rsq.targets.workload import Conv2DWorkload
from tvm_rsq.targets.x86_64.depthwise_row import DepthwiseRow
from tvm_rsq.targets.x86_64.row_pairs import RowPairs, overlapping


def depthwise_pairs(w: Conv2DWorkload, form: RequantizeForm, tile: DepthwiseTile, step: ConvStep) -> Kernel:
    """The kernel of the uint8 depthwise workload `w`, which has no dilation along H; step sums pairs of int16 products.

    ValueError: a tile that does not fit the workload, or the step.
    """
    check_choice(tile)
    pairs = RowPairs.of(w, tile)
    in_range = tile.cols <= tile.segment <= w.out_width and tile.strip <= w.out_height and tile.blocks <= pairs.blocks
    if tile.cols % 2 or tile.lanes > w.in_channels or tile.lanes not in (16, 32, 64) or tile.lanes > 4 * step.lanes or not in_range:
        raise ValueError(f"choice {tile} does not fit {w}; take one of conv2d_space")
    name = f"depthwise_pairs_{tile.cols}x{tile.lanes}_{tile.strip}x{tile.segment}"
    return Kernel(name=name, prim_func=_prim_func(w, pairs, tile, form, step), pack_weight=lambda weight: _pack(weight, pairs, tile))


def _pack(weight: np.ndarray, pairs: RowPairs, tile: DepthwiseTile) -> np.ndarray:
    """(C, KH, KW, 1) -> (blocks, 4 vectors, parities, planes, KW, tile.lanes / 4, 2) int16, flattened."""
    channels, rows, cols = weight.shape[:3]
    starts = np.minimum(np.arange(pairs.blocks) * tile.lanes, channels - tile.lanes)
    order = np.arange(tile.lanes).reshape(-1, 4, 4).transpose(1, 0, 2).reshape(-1)
    padded = np.zeros((pairs.parities, channels, 2 * pairs.planes, cols), "int16")
    for parity in range(pairs.parities):
        padded[parity, :, parity : parity + rows] = weight[..., 0]
    picked = padded[:, np.add.outer(starts, order).reshape(-1)]
    shape = (pairs.parities, pairs.blocks, 4, tile.lanes // 4, pairs.planes, 2, cols)
    return np.ascontiguousarray(picked.reshape(shape).transpose(1, 2, 0, 4, 6, 3, 5)).reshape(-1)


def _prim_func(w: Conv2DWorkload, pairs: RowPairs, tile: DepthwiseTile, form: RequantizeForm, step: ConvStep) -> PrimFunc:
    filter_size = pairs.planes * w.kernel[1] * (tile.lanes // 2)
    tiles, groups = -(-tile.segment // tile.cols), -(-pairs.blocks // tile.blocks)
    with IRBuilder() as builder:
        with T.prim_func(s_tir=True):
            T.func_attr({"tirx.noalias": True, "global_symbol": "main"})
            operands = Operands(w, (pairs.blocks * 4 * pairs.parities * filter_size,), "int16", form)
            data = flat(operands.data, w.batch * w.height * w.width * w.in_channels, "uint8")
            with T.parallel(w.batch * pairs.strips * pairs.segments * groups) as task:
                area, group = tirx.floordiv(task, groups), tirx.floormod(task, groups)
                line, segment = tirx.floordiv(area, pairs.segments), tirx.floormod(area, pairs.segments)
                image, strip = tirx.floordiv(line, pairs.strips), tirx.floormod(line, pairs.strips)
                top, left = overlapping(strip, tile.strip, w.out_height), overlapping(segment, tile.segment, w.out_width)
                corner = (top * w.stride[0] - w.padding[0], left * w.stride[1] - w.padding[1])
                staged = T.alloc_buffer((pairs.staged_size,), "int16")
                row = DepthwiseRow(operands, tile, tiles)
                with T.serial(tile.blocks) as b:
                    block = overlapping(group, tile.blocks, pairs.blocks) + b
                    channel = overlapping(block, tile.lanes, w.in_channels)
                    pairs.stage(staged, data, image, corner, channel)
                    row.load(channel)
                    with T.serial(tile.strip) as r:
                        parity = tirx.floormod(r * w.stride[0], 2) if pairs.parities == 2 else 0
                        plane_at = tirx.floordiv(r * w.stride[0], 2) * (pairs.cols_in * (tile.lanes // 2))
                        first = (image * w.out_height + top + r) * w.out_width + left
                        with T.serial(4) as vec, T.serial(tiles) as t:
                            col = overlapping(t, tile.cols, tile.segment)
                            weight_at = ((block * 4 + vec) * pairs.parities + parity) * filter_size
                            staged_at = plane_at + col * (w.stride[1] * (tile.lanes // 2)) + vec * (pairs.staged_size // 4)
                            sums = _Sums([row.start(vec)] * tile.cols, step, pairs)
                            sums.add(staged, staged_at, operands.weight, weight_at)
                            row.finish(sums.values, vec, t, first + col)
                        row.store(lambda t: first + overlapping(t, tile.cols, tile.segment))  # noqa: B023
    return builder.get()


class _Sums:
    """The sums of adjacent columns over one vector of channels."""

    def __init__(self, values: list[Expr], step: ConvStep, pairs: RowPairs) -> None:
        self.values, self.step, self.pairs = values, step, pairs

    def add(self, staged: Expr, staged_at: Expr, weight: Expr, weight_at: Expr) -> None:
        """All products of the filter, whose first plane begins at staged_at."""
        w, lanes = self.pairs.workload, self.pairs.tile.lanes // 4
        cols, dilation = len(self.values), w.dilation[1]
        for plane in range(self.pairs.planes):
            for position in range((cols - 1) * w.stride[1] + (w.kernel[1] - 1) * dilation + 1):
                pair = staged.vload([staged_at + (plane * self.pairs.cols_in + position) * 2 * lanes], f"int16x{2 * lanes}")
                for x in range(cols):
                    kw, rest = divmod(position - x * w.stride[1], dilation)
                    if rest == 0 and 0 <= kw < w.kernel[1]:
                        weights = weight.vload([weight_at + (plane * w.kernel[1] + kw) * 2 * lanes], f"int16x{2 * lanes}")
                        self.values[x] = self.step.apply(self.values[x], [pair], [weights], lanes)
