"""Depthwise convolution by groups of rows: two by pmaddwd or vpdpwssd, four by vpdpbusd, exact in int32.

    parallel over (strip of output rows, segment of columns, blocks of channels)
        for each block of channels:
            stage    the strip's input rows 2j ... 2j + 1 (or + 3), interleaved, padded with the zero point
            for each output row, each of the four vectors of the block (its weights in registers), each tile of `cols` columns:
                every sum += step(group of pixels, group of weights), then the epilogue

Rows of a group that the filter does not reach have the weight 0. Every staged group serves all columns and rows that it belongs to.
Everything is interleaved within 128 bits, as unpack and pack instructions do: vector i of a block is channels 4i ... 4i + 3 of each 16.
Rows, columns and channels that do not divide overlap, as in generic/conv2d.py.
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
from tvm_rsq.targets.generic.row_groups import RowGroups, overlapping
from tvm_rsq.targets.generic.staging import flat
from tvm_rsq.targets.generic.steps import ConvStep
from tvm_rsq.targets.kernel import Kernel
from tvm_rsq.targets.numerics import RequantizeForm
from tvm_rsq.targets.workload import Conv2DWorkload
from tvm_rsq.targets.x86_64.depthwise_row import DepthwiseRow

GROUPED = ("pairs", "quads")


def depthwise_groups(w: Conv2DWorkload, form: RequantizeForm, tile: DepthwiseTile, step: ConvStep) -> Kernel:
    """The kernel of the uint8 depthwise workload `w`, which has no dilation along H; step sums as many products as a group has rows.

    ValueError: a tile that does not fit the workload, or the step.
    """
    check_choice(tile)
    if tile.method not in GROUPED:
        raise ValueError(f"method is {tile.method!r}, expected one of {', '.join(GROUPED)}; take one of conv2d_space")
    groups = RowGroups.of(w, tile)
    if step.depth != groups.depth or w.dilation[0] != 1:
        raise ValueError(
            f"step {step.name} sums {step.depth} products and dilation is {w.dilation}, expected {groups.depth} for {tile.method} and none "
            "along H; take one of conv2d_space"
        )
    in_range = tile.cols <= tile.segment <= w.out_width and tile.strip <= w.out_height and tile.blocks <= groups.blocks
    if tile.cols % 2 or tile.lanes > w.in_channels or tile.lanes not in (16, 32, 64) or tile.lanes > 4 * step.lanes or not in_range:
        raise ValueError(f"choice {tile} does not fit {w}; take one of conv2d_space")
    name = f"depthwise_{tile.method}_{tile.cols}x{tile.lanes}_{tile.strip}x{tile.segment}"
    return Kernel(
        name=name, prim_func=_prim_func(w, groups, tile, form, step), pack_weight=lambda weight: _pack(weight, groups, tile),
        spread=(groups.blocks * 4, groups.parities * groups.planes * w.kernel[1], tile.lanes // 4, groups.depth),
    )  # fmt: skip


def _pack(weight: np.ndarray, groups: RowGroups, tile: DepthwiseTile) -> np.ndarray:
    """(C, KH, KW, 1) -> (blocks, 4 vectors, parities, planes, KW, tile.lanes / 4, depth), int16 or int8, flattened."""
    channels, rows, cols = weight.shape[:3]
    starts = np.minimum(np.arange(groups.blocks) * tile.lanes, channels - tile.lanes)
    order = np.arange(tile.lanes).reshape(-1, 4, 4).transpose(1, 0, 2).reshape(-1)
    padded = np.zeros((groups.parities, channels, groups.depth * groups.planes, cols), _weight_dtype(groups))
    for parity in range(groups.parities):
        padded[parity, :, parity : parity + rows] = weight[..., 0]
    picked = padded[:, np.add.outer(starts, order).reshape(-1)]
    shape = (groups.parities, groups.blocks, 4, tile.lanes // 4, groups.planes, groups.depth, cols)
    return np.ascontiguousarray(picked.reshape(shape).transpose(1, 2, 0, 4, 6, 3, 5)).reshape(-1)


def _prim_func(w: Conv2DWorkload, groups: RowGroups, tile: DepthwiseTile, form: RequantizeForm, step: ConvStep) -> PrimFunc:
    filter_size = groups.planes * w.kernel[1] * groups.group
    tiles, shares = -(-tile.segment // tile.cols), -(-groups.blocks // tile.blocks)
    with IRBuilder() as builder:
        with T.prim_func(s_tir=True):
            T.func_attr({"tirx.noalias": True, "global_symbol": "main"})
            operands = Operands(w, (groups.blocks * 4 * groups.parities * filter_size,), _weight_dtype(groups), form)
            data = flat(operands.data, w.batch * w.height * w.width * w.in_channels, "uint8")
            with T.parallel(w.batch * groups.strips * groups.segments * shares) as task:
                area, share = tirx.floordiv(task, shares), tirx.floormod(task, shares)
                line, segment = tirx.floordiv(area, groups.segments), tirx.floormod(area, groups.segments)
                image, strip = tirx.floordiv(line, groups.strips), tirx.floormod(line, groups.strips)
                top, left = overlapping(strip, tile.strip, w.out_height), overlapping(segment, tile.segment, w.out_width)
                corner = (top * w.stride[0] - w.padding[0], left * w.stride[1] - w.padding[1])
                staged = T.alloc_buffer((groups.staged_size,), groups.dtype)
                row = DepthwiseRow(operands, tile, tiles)
                with T.serial(tile.blocks) as b:
                    block = overlapping(share, tile.blocks, groups.blocks) + b
                    channel = overlapping(block, tile.lanes, w.in_channels)
                    groups.stage(staged, data, image, corner, channel)
                    row.load(channel)
                    with T.serial(tile.strip) as r:
                        parity = tirx.floormod(r * w.stride[0], 2) if groups.parities == 2 else 0
                        plane_at = tirx.floordiv(r * w.stride[0], 2) * (groups.cols_in * groups.group)
                        first = (image * w.out_height + top + r) * w.out_width + left
                        with T.serial(4) as vec, T.serial(tiles) as t:
                            col = overlapping(t, tile.cols, tile.segment)
                            weight_at = ((block * 4 + vec) * groups.parities + parity) * filter_size
                            staged_at = plane_at + col * (w.stride[1] * groups.group) + vec * (groups.staged_size // 4)
                            sums = _Sums([row.start(vec)] * tile.cols, step, groups)
                            sums.add(staged, staged_at, operands.weight, weight_at)
                            row.finish(sums.values, vec, t, first + col)
                        row.store(lambda t: first + overlapping(t, tile.cols, tile.segment))  # noqa: B023
    return builder.get()


def _weight_dtype(groups: RowGroups) -> str:
    return "int16" if groups.depth == 2 else "int8"


class _Sums:
    """The sums of adjacent columns over one vector of channels."""

    def __init__(self, values: list[Expr], step: ConvStep, groups: RowGroups) -> None:
        self.values, self.step, self.groups = values, step, groups
        # How steps take both operands, also the unsigned one.
        self.operand = f"{_weight_dtype(groups)}x{groups.group}"

    def add(self, staged: Expr, staged_at: Expr, weight: Expr, weight_at: Expr) -> None:
        """All products of the filter, whose first plane begins at staged_at."""
        w, g, lanes = self.groups.workload, self.groups, self.groups.tile.lanes // 4
        cols, dilation = len(self.values), w.dilation[1]
        for plane in range(g.planes):
            for position in range((cols - 1) * w.stride[1] + (w.kernel[1] - 1) * dilation + 1):
                at = staged_at + (plane * g.plane_step * g.cols_in + position) * g.group
                pixels = tirx.reinterpret(self.operand, staged.vload([at], f"{g.dtype}x{g.group}"))
                for x in range(cols):
                    kw, rest = divmod(position - x * w.stride[1], dilation)
                    if rest == 0 and 0 <= kw < w.kernel[1]:
                        weights = weight.vload([weight_at + (plane * w.kernel[1] + kw) * g.group], self.operand)
                        (self.values[x],) = self.step.add([self.values[x]], [pixels], [weights], lanes)
