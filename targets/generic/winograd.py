"""Winograd's convolution for 3x3 filters with stride 1, exact in integers (see winograd_transform), in one kernel.

    for each block of tiles:       overlapping (m + 2) x (m + 2) patches of the input, one for m x m outputs
        transform its input        -> (positions, tiles, IC) int16, positions = (m + 2)^2
        for each block of channels:
            for each position:     (tiles x IC) times (IC x channels), summed up in registers -> int32
            transform the sums, divide, and store through the epilogue

Tiles, blocks of tiles and blocks of channels that do not divide move back to overlap their neighbours, as in generic/conv2d.py.
"""

from __future__ import annotations

import numpy as np
from tvm import tirx
from tvm.ir import Expr
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T

from tvm_rsq.targets.generic.conv_geometry import ConvGeometry, conv_geometry
from tvm_rsq.targets.generic.operands import Operands
from tvm_rsq.targets.generic.staging import stage_input
from tvm_rsq.targets.generic.steps import ConvStep, vector
from tvm_rsq.targets.generic.tiles import lanes_for
from tvm_rsq.targets.generic.winograd_tile import WinogradTile, default_winograd_tile, tile_count, tile_grid, winograd_fits
from tvm_rsq.targets.generic.winograd_transform import divide_output, transform_input, transform_output, transform_weight
from tvm_rsq.targets.kernel import Kernel
from tvm_rsq.targets.numerics import RequantizeForm
from tvm_rsq.targets.workload import Conv2DWorkload


def winograd(w: Conv2DWorkload, step: ConvStep, form: RequantizeForm, tile: WinogradTile | None = None) -> Kernel:
    """The kernel of `w` made of `step`, which takes int16 for both operands.   ValueError: `w`, `step` and `tile` do not fit."""
    tile = tile or default_winograd_tile(w, step)
    if not winograd_fits(w, tile.m):
        raise ValueError(f"{w} has no exact F({tile.m}) kernel; use the direct one")
    if (step.data, step.weight, step.parts) != ("int16", "int16", 1):
        raise ValueError(f"step {step.name} takes {step.data} x {step.weight} in {step.parts} parts, expected int16 x int16 in one")
    count = tile_count(w, tile.m)
    if not (tile.cols <= tile.tiles <= count and tile.vecs * tile.lanes <= w.out_channels):
        raise ValueError(f"{tile} is larger than {w}, which has {count} tiles; take one of winograd_choices")
    name = f"winograd{tile.m}_{step.name}_{tile.cols}x{tile.vecs}x{tile.lanes}"
    return Kernel(name=name, prim_func=_Builder(w, step, form, tile).build(), pack_weight=lambda weight: _pack(weight, step, tile))


def _pack(weight: np.ndarray, step: ConvStep, tile: WinogradTile) -> np.ndarray:
    """OHWI -> (blocks, positions, steps, vecs, lanes, depth) int16, flattened."""
    channels, _, _, run = weight.shape
    width, steps = tile.vecs * tile.lanes, -(-run // step.depth)
    starts = np.minimum(np.arange(-(-channels // width)) * width, channels - width)
    u = transform_weight(weight, tile.m).reshape(-1, channels, run)
    u = np.pad(u, [(0, 0), (0, 0), (0, steps * step.depth - run)])[:, np.add.outer(starts, np.arange(width))]
    u = u.reshape(u.shape[0], len(starts), tile.vecs, tile.lanes, steps, step.depth)
    return np.ascontiguousarray(u.transpose(1, 0, 4, 2, 3, 5)).reshape(-1)


class _Builder:
    """The parts of one kernel's prim_func."""

    def __init__(self, w: Conv2DWorkload, step: ConvStep, form: RequantizeForm, tile: WinogradTile) -> None:
        self.w, self.step, self.form, self.tile = w, step, form, tile
        self.g: ConvGeometry = conv_geometry(w)
        self.side = tile.m + 2
        self.positions = self.side**2
        self.steps = -(-w.in_channels // step.depth)
        self.run = self.steps * step.depth
        self.width = tile.vecs * tile.lanes
        self.blocks = -(-w.out_channels // self.width)
        self.step_size = self.width * step.depth
        self.count = tile_count(w, tile.m)

    def build(self) -> tirx.PrimFunc:
        tile = self.tile
        with IRBuilder() as builder:
            with T.prim_func(s_tir=True):
                T.func_attr({"tirx.noalias": True, "global_symbol": "main"})
                size = self.blocks * self.positions * self.steps * self.step_size
                self.operands = Operands(self.w, (size,), "int16", self.form)
                self.data = stage_input(self.operands.data, self.w, self.g, dtype="uint8", depth=1)
                blocks = -(-self.count // tile.tiles)
                if tile.outer == "tiles":
                    with T.parallel(blocks) as b:
                        first = _start(b, tile.tiles, self.count)
                        patches = self._patches()
                        with T.serial(tile.tiles) as t:
                            self._transform_input(patches, first, t)
                        with T.serial(self.blocks) as block:
                            self._channel_block(patches, first, block)
                else:
                    patches = self._patches()
                    with T.serial(blocks) as b:
                        first = _start(b, tile.tiles, self.count)
                        with T.parallel(tile.tiles) as t:
                            self._transform_input(patches, first, t)
                        with T.parallel(self.blocks) as block:
                            self._channel_block(patches, first, block)
        return builder.get()

    def _patches(self) -> Expr:
        return T.alloc_buffer((self.positions * self.tile.tiles * self.run,), "int16")

    def _corner(self, index: Expr) -> tuple[Expr, Expr, Expr]:
        """Image, row and column of the first output of a tile."""
        high, wide = tile_grid(self.w, self.tile.m)
        image, row, col = tirx.floordiv(index, high * wide), tirx.floordiv(index, wide), tirx.floormod(index, wide)
        row = tirx.floormod(row, high) if self.w.batch > 1 else row
        return image, _start(row, self.tile.m, self.w.out_height), _start(col, self.tile.m, self.w.out_width)

    def _transform_input(self, patches: Expr, first: Expr, t: Expr) -> None:
        """Emit: patches[:, t, :] = the transform of tile first + t."""
        m, n, channels = self.tile.m, self.side, self.w.in_channels
        lanes = lanes_for(channels, 2 * self.tile.lanes)
        image, row, col = self._corner(first + t)
        base = image * self.g.image_step + (row * self.g.cols + col) * channels
        between = T.alloc_buffer((self.positions * lanes,), "int16")
        with T.serial(-(-channels // lanes)) as c:
            channel = _start(c, lanes, channels)
            with T.serial(n) as j:
                pixels = [self.data.vload([base + channel + (i * self.g.cols + j) * channels], vector("uint8", lanes)) for i in range(n)]
                pixels = [T.bind(p.astype(vector("int16", lanes))) for p in pixels]
                for i, value in enumerate(transform_input(m, pixels, T.bind)):
                    T.buffer_store(between, value, [_ramp((i * n + j) * lanes, lanes)])
            with T.serial(n) as i:
                row_values = [T.bind(between.vload([(i * n + j) * lanes], vector("int16", lanes))) for j in range(n)]
                for j, value in enumerate(transform_input(m, row_values, T.bind)):
                    at = ((i * n + j) * self.tile.tiles + t) * self.run + channel
                    T.buffer_store(patches, value, [_ramp(at, lanes)])

    def _channel_block(self, patches: Expr, first: Expr, block: Expr) -> None:
        """Emit: the outputs of all tiles of the block, in the channels of one block."""
        tile, size = self.tile, self.positions * self.steps * self.step_size
        sums = T.alloc_buffer((tile.tiles * tile.vecs * self.positions * tile.lanes,), "int32")
        with T.serial(self.positions) as position, T.serial(-(-tile.tiles // tile.cols)) as chunk:
            t = _start(chunk, tile.cols, tile.tiles)
            acc = T.alloc_buffer((tile.cols * self.width,), "int32", scope="local")
            zero = tirx.Broadcast(tirx.const(0, "int32"), tile.lanes) if tile.lanes > 1 else tirx.const(0, "int32")
            for a in range(tile.cols * tile.vecs):
                T.buffer_store(acc, zero, [_ramp(a * tile.lanes, tile.lanes)])
            pixels = (position * tile.tiles + t) * self.run
            self._accumulate(acc, patches, pixels, block * size + position * self.steps * self.step_size)
            for x in range(tile.cols):
                for v in range(tile.vecs):
                    at = (((t + x) * tile.vecs + v) * self.positions + position) * tile.lanes
                    value = acc.vload([(x * tile.vecs + v) * tile.lanes], vector("int32", tile.lanes))
                    T.buffer_store(sums, value, [_ramp(at, tile.lanes)])
        channel = _start(block, self.width, self.w.out_channels)
        between = T.alloc_buffer((tile.vecs * tile.m * self.side * tile.lanes,), "int32")
        with T.serial(tile.tiles) as t:
            self._transform_output(sums, between, first, t, channel)

    def _accumulate(self, acc: Expr, patches: Expr, pixel_base: Expr, weight_base: Expr) -> None:
        """Emit: acc += the sums of `cols` tiles at one position."""
        tile, step, lanes = self.tile, self.step, self.tile.lanes
        size = lanes * step.depth
        with T.serial(self.steps) as s:
            weight_at = weight_base + s * self.step_size
            weights = [self.operands.weight.vload([weight_at + v * size], vector("int16", size)) for v in range(tile.vecs)]
            for x in range(tile.cols):
                pixel = step.broadcast(patches, pixel_base + x * self.run + s * step.depth, lanes)
                for v in range(tile.vecs):
                    at = (x * tile.vecs + v) * lanes
                    old = acc.vload([at], vector("int32", lanes))
                    T.buffer_store(acc, step.apply(old, [pixel], [weights[v]], lanes), [_ramp(at, lanes)])

    def _transform_output(self, sums: Expr, between: Expr, first: Expr, t: Expr, channel: Expr) -> None:
        """Emit: the m x m outputs of tile first + t, in the channels of one block."""
        tile, m, n, lanes = self.tile, self.tile.m, self.side, self.tile.lanes
        image, row, col = self._corner(first + t)
        dtype = vector("int32", lanes)
        with T.serial(tile.vecs) as v, T.serial(n) as j:
            at = (t * tile.vecs + v) * self.positions + j
            column = [T.bind(sums.vload([(at + i * n) * lanes], dtype)) for i in range(n)]
            for i, value in enumerate(transform_output(m, column, T.bind)):
                T.buffer_store(between, value, [_ramp(((v * m + i) * n + j) * lanes, lanes)])
        with T.serial(m) as i:
            acc = T.alloc_buffer((m * self.width,), "int32", scope="local")
            for v in range(tile.vecs):
                start = T.bind(self.operands.start(lanes, channel + v * lanes))
                values = [T.bind(between.vload([((v * m + i) * n + j) * lanes], dtype)) for j in range(n)]
                for j, value in enumerate(transform_output(m, values, T.bind)):
                    T.buffer_store(acc, divide_output(m, value) + start, [_ramp(j * self.width + v * lanes, lanes)])
            for j in range(m):
                pixel = (image * self.w.out_height + row + i) * self.w.out_width + col + j
                self.operands.store(acc, self.width, j * self.width, pixel, channel)


def _start(index: Expr, size: int, count: int) -> Expr:
    """Where the index-th part of `size` begins; the last one moves back."""
    return tirx.min(index * size, count - size) if count % size else index * size


def _ramp(start: Expr | int, lanes: int) -> Expr | int:
    return tirx.Ramp(start, 1, lanes) if lanes > 1 else start
