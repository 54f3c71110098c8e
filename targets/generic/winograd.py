"""Winograd's convolution for 3x3 filters with stride 1, exact in integers (see winograd_transform), in one kernel.

    for each block of tiles:       overlapping (m + 2) x (m + 2) patches of the input, one for m x m outputs
        transform its input        -> (positions, tiles, IC) int16, positions = (m + 2)^2
        for each block of channels:
            for each position:     (tiles x IC) times (IC x channels), summed up in registers -> int32
            transform the sums, divide, and store through the epilogue

Tiles, blocks of tiles, and blocks of channels that do not divide move back to overlap their neighbours, as in generic/conv2d.py.
"""

from __future__ import annotations

from collections.abc import Sequence

from tvm import tirx
from tvm.ir import Expr
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T

from tvm_rsq.targets.generic.choice_checks import check_step
from tvm_rsq.targets.generic.conv_geometry import ConvGeometry, conv_geometry
from tvm_rsq.targets.generic.narrow import CLIP, Narrow
from tvm_rsq.targets.generic.operands import Operands
from tvm_rsq.targets.generic.staging import stage_input
from tvm_rsq.targets.generic.steps import ConvStep, spread, vector
from tvm_rsq.targets.generic.tiles import lanes_for
from tvm_rsq.targets.generic.winograd_space import default_winograd_tile
from tvm_rsq.targets.generic.winograd_tile import WinogradTile, tile_count, tile_grid, winograd_fits
from tvm_rsq.targets.generic.winograd_transform import divide_output, transform_input, transform_output
from tvm_rsq.targets.generic.winograd_weights import WinogradWeights
from tvm_rsq.targets.generic.wrapping import Wrapping, wrapping_sum
from tvm_rsq.targets.kernel import Kernel
from tvm_rsq.targets.numerics import RequantizeForm
from tvm_rsq.targets.workload import Conv2DWorkload


def winograd(w: Conv2DWorkload, step: ConvStep, form: RequantizeForm, tile: WinogradTile | None = None, narrow: Narrow = CLIP) -> Kernel:
    """The kernel of `w` made of `step`, which takes int16 for both operands.   ValueError: `w`, `step` and `tile` do not fit."""
    tile = tile or default_winograd_tile(w, step)
    check_step(tile, step)
    if not winograd_fits(w, tile.m):
        raise ValueError(f"{w} has no exact F({tile.m}) kernel; use the direct one")
    if (step.data, step.weight, step.parts) != ("int16", "int16", 1):
        raise ValueError(f"step {step.name} takes {step.data} x {step.weight} in {step.parts} parts, expected int16 x int16 in one")
    count = tile_count(w, tile.m)
    if not (tile.cols <= tile.tiles <= count and tile.vecs * tile.lanes <= w.out_channels):
        raise ValueError(f"{tile} is larger than {w}, which has {count} tiles; take one of winograd_choices")
    name = f"winograd{tile.m}_{step.name}_{tile.cols}x{tile.vecs}x{tile.lanes}"
    weights = WinogradWeights(w, step, tile)
    return Kernel(name=name, prim_func=_Builder(w, step, form, narrow, tile, weights).build(), pack_weight=weights.pack)


class _Builder:
    """The parts of one kernel's prim_func."""

    def __init__(
        self, w: Conv2DWorkload, step: ConvStep, form: RequantizeForm, narrow: Narrow, tile: WinogradTile, weights: WinogradWeights
    ) -> None:
        self.w, self.step, self.form, self.narrow, self.tile, self.weights = w, step, form, narrow, tile, weights
        self.g: ConvGeometry = conv_geometry(w)
        self.side = tile.m + 2
        self.positions = self.side**2
        self.width, self.blocks = weights.width, weights.blocks
        self.count = tile_count(w, tile.m)
        # What fills up the last `cols` tiles of a block is computed from whatever is in memory, and not stored.
        self.rows = -(-tile.tiles // tile.cols) * tile.cols

    def build(self) -> tirx.PrimFunc:
        tile = self.tile
        with IRBuilder() as builder:
            with T.prim_func(s_tir=True):
                T.func_attr({"tirx.noalias": True, "global_symbol": "main"})
                self.operands = Operands(self.w, self.weights.shape, self.weights.dtype, self.form, self.narrow)
                self.data = stage_input(self.operands.data, self.w, self.g, dtype=self.w.in_dtype, depth=1)
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
        return T.alloc_buffer((self.weights.parts * self.positions * self.rows * self.weights.part_channels,), "int16")

    def _corner(self, index: Expr) -> tuple[Expr, Expr, Expr]:
        """Image, row and column of the first output of a tile."""
        high, wide = tile_grid(self.w, self.tile.m)
        image, row, col = tirx.floordiv(index, high * wide), tirx.floordiv(index, wide), tirx.floormod(index, wide)
        row = tirx.floormod(row, high) if self.w.batch > 1 else row
        return image, _start(row, self.tile.m, self.w.out_height), _start(col, self.tile.m, self.w.out_width)

    def _transform_input(self, patches: Expr, first: Expr, t: Expr) -> None:
        """Emit: patches[:, t, :] = the transform of tile first + t."""
        m, n, channels = self.tile.m, self.side, self.w.in_channels
        lanes, part = self._input_lanes(), self.weights.part_channels
        image, row, col = self._corner(first + t)
        base = image * self.g.image_step + (row * self.g.cols + col) * channels
        between = T.alloc_buffer((self.positions * lanes,), "int16")
        with T.serial(-(-channels // lanes)) as c:
            channel = _start(c, lanes, channels)
            with T.serial(n) as j:
                starts = [base + channel + (i * self.g.cols + j) * channels for i in range(n)]
                pixels = [self.data.vload([start], vector(self.w.in_dtype, lanes)) for start in starts]
                pixels = [T.bind(p.astype(vector("int16", lanes))) for p in pixels]
                for i, value in enumerate(transform_input(m, pixels, T.bind)):
                    T.buffer_store(between, value, [_ramp((i * n + j) * lanes, lanes)])
            with T.serial(n) as i:
                row_values = [T.bind(between.vload([(i * n + j) * lanes], vector("int16", lanes))) for j in range(n)]
                for j, value in enumerate(transform_input(m, row_values, T.bind)):
                    at = ((tirx.floordiv(channel, part) * self.positions + i * n + j) * self.rows + t) * part + tirx.floormod(channel, part)
                    T.buffer_store(patches, value, [_ramp(at, lanes)])

    def _input_lanes(self) -> int:
        """Channels that are transformed at a time: a vector full, of one part."""
        channels, part = self.w.in_channels, self.weights.part_channels
        lanes = lanes_for(channels, 2 * self.tile.lanes)
        while self.weights.parts > 1 and (channels % lanes or part % lanes):
            lanes //= 2
        return lanes

    def _channel_block(self, patches: Expr, first: Expr, block: Expr) -> None:
        """Emit: the outputs of all tiles of the block, in the channels of one block."""
        tile, weights = self.tile, self.weights
        size = self.rows * tile.vecs * self.positions * tile.lanes
        sums = T.alloc_buffer((size,), "int32")
        if tile.weights == "transformed":
            self._multiply(sums, patches, self.operands.weight, block * weights.block_size, None)
        else:
            transformed = T.alloc_buffer((weights.part_size,), "int16")
            with T.serial(size) as i:
                T.buffer_store(sums, tirx.const(0, "int32"), [i])
            with T.serial(weights.parts) as part:
                weights.transform(transformed, self.operands.weight, block, part)
                self._multiply(sums, patches, transformed, 0, part)
        between = T.alloc_buffer((tile.vecs * tile.m * self.side * tile.lanes,), "int32")
        with T.serial(tile.tiles) as t:
            self._transform_output(sums, between, first, t, _start(block, self.width, self.w.out_channels))

    def _multiply(self, sums: Expr, patches: Expr, weight: Expr, weight_base: Expr | int, part: Expr | None) -> None:
        """Emit: sums = the products of all tiles and positions; sums += those of one part of the input channels, if one is given."""
        tile, weights, dtype = self.tile, self.weights, vector("int32", self.tile.lanes)
        with T.serial(self.positions) as position, T.serial(self.rows // tile.cols) as chunk:
            t = chunk * tile.cols
            # One for each tile, as in generic/conv2d.py.
            acc = [T.alloc_buffer((self.width,), "int32") for _ in range(tile.cols)]
            places = [
                (acc[x], v * tile.lanes, (((t + x) * tile.vecs + v) * self.positions + position) * tile.lanes)
                for x in range(tile.cols)
                for v in range(tile.vecs)
            ]
            for one, at, place in places:
                value = spread(tirx.const(0, "int32"), tile.lanes) if part is None else sums.vload([place], dtype)
                T.buffer_store(one, value, [_ramp(at, tile.lanes)])
            pixels = (((0 if part is None else part * self.positions) + position) * self.rows + t) * weights.part_channels
            self._accumulate(acc, patches, pixels, weight, weight_base + position * weights.steps * weights.step_size)
            for one, at, place in places:
                T.buffer_store(sums, one.vload([at], dtype), [_ramp(place, tile.lanes)])

    def _accumulate(self, acc: Sequence[Expr], patches: Expr, pixel_base: Expr, weight: Expr, weight_base: Expr) -> None:
        """Emit: acc[x] += the sums of the x-th of `cols` tiles at one position."""
        tile, step, lanes = self.tile, self.step, self.tile.lanes
        size = lanes * step.depth

        def emit(first: Expr | int, count: int) -> None:
            starts = [(patches, pixel_base + x * self.weights.part_channels) for x in range(tile.cols)]
            pixels = [step.operands([start], first * step.depth, count, lanes) for start in starts]
            for u in range(count):
                weight_at = weight_base + (first + u) * self.weights.step_size
                vectors = [weight.vload([weight_at + v * size], vector("int16", size)) for v in range(tile.vecs)]
                for x in range(tile.cols):
                    for v in range(tile.vecs):
                        old = acc[x].vload([v * lanes], vector("int32", lanes))
                        T.buffer_store(acc[x], step.add([old], pixels[x][u], [vectors[v]], lanes)[0], [_ramp(v * lanes, lanes)])

        whole, rest = divmod(self.weights.steps, step.run)
        with T.serial(whole) as run:
            emit(run * step.run, step.run)
        if rest:
            emit(whole * step.run, rest)

    def _transform_output(self, sums: Expr, between: Expr, first: Expr, t: Expr, channel: Expr) -> None:
        """Emit: the m x m outputs of tile first + t, in the channels of one block."""
        tile, m, n, lanes = self.tile, self.tile.m, self.side, self.tile.lanes
        image, row, col = self._corner(first + t)
        dtype = vector("int32", lanes)
        with T.serial(tile.vecs) as v, T.serial(n) as j:
            at = (t * tile.vecs + v) * self.positions + j
            column = [Wrapping(T.bind(sums.vload([(at + i * n) * lanes], dtype))) for i in range(n)]
            for i, total in enumerate(transform_output(m, column, _keep)):
                T.buffer_store(between, total.value, [_ramp(((v * m + i) * n + j) * lanes, lanes)])
        with T.serial(m) as i:
            acc = [T.alloc_buffer((self.width,), "int32") for _ in range(m)]
            for v in range(tile.vecs):
                start = T.bind(self.operands.start(lanes, channel + v * lanes))
                values = [Wrapping(T.bind(between.vload([((v * m + i) * n + j) * lanes], dtype))) for j in range(n)]
                for j, total in enumerate(transform_output(m, values, _keep)):
                    result = wrapping_sum(divide_output(m, total).value, start)
                    T.buffer_store(acc[j], result, [_ramp(v * lanes, lanes)])
            for j in range(m):
                pixel = (image * self.w.out_height + row + i) * self.w.out_width + col + j
                self.operands.store(acc[j], lanes, 0, pixel, channel, tile.vecs)


def _start(index: Expr, size: int, count: int) -> Expr:
    """Where the index-th part of `size` begins; the last one moves back."""
    return tirx.min(index * size, count - size) if count % size else index * size


def _keep(x: Wrapping) -> Wrapping:
    return Wrapping(T.bind(x.value))


def _ramp(start: Expr | int, lanes: int) -> Expr | int:
    return tirx.Ramp(start, 1, lanes) if lanes > 1 else start
