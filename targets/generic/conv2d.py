"""Convolution and dense for any CPU: one template over the target's multiply-accumulate step and a tile.

    parallel over (row segment, channel block), in the tile's order
        for each tile of the segment:                    cols x vecs accumulators, all in registers
            for kh, kw, step of the run:  every accumulator += pixel * weights
            epilogue, straight from the registers into the output

What does not divide is not masked: the last tile of a row and the last vector of the channels move back to overlap their neighbours, and
store the same values again. So the output must not share memory with an input (a residual, say).
"""

from __future__ import annotations

from tvm import tirx
from tvm.ir import Expr
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T
from tvm.tirx import PrimFunc

from tvm_rsq.targets.generic.conv_geometry import ConvGeometry, conv_geometry
from tvm_rsq.targets.generic.operands import Operands
from tvm_rsq.targets.generic.pack import channel_starts, pack_conv
from tvm_rsq.targets.generic.staging import stage_input
from tvm_rsq.targets.generic.steps import ConvStep, vector
from tvm_rsq.targets.generic.tiles import Tile, choose_tile
from tvm_rsq.targets.kernel import Kernel
from tvm_rsq.targets.numerics import RequantizeForm
from tvm_rsq.targets.workload import Conv2DWorkload


def conv2d(w: Conv2DWorkload, step: ConvStep, form: RequantizeForm, tile: Tile | None = None) -> Kernel:
    """The kernel of `w` made of `step`, which fits its dtype and can be made as narrow as `tile.lanes`."""
    g = conv_geometry(w)
    tile = tile or default_tile(w, step)

    def pack(weight):
        return pack_conv(weight, groups=w.groups, geometry=g, tile=tile, depth=step.depth, dtype=step.weight)

    kind = "dense" if g.out_cols == g.out_rows == g.images == 1 and w.kernel == (1, 1) else "conv2d"
    name = f"{kind}_{step.name}_{tile.cols}x{tile.vecs}x{tile.lanes}"
    return Kernel(name=name, prim_func=_prim_func(w, g, step, tile, form), pack_weight=pack)


def default_tile(w: Conv2DWorkload, step: ConvStep) -> Tile:
    """The untuned choice."""
    g = conv_geometry(w)
    return choose_tile(
        rows=g.images * g.out_rows,
        cols=g.out_cols,
        channels=w.out_channels // w.groups,
        steps=g.taps_h * g.taps_w * -(-g.run // step.depth),
        step_bytes=step.depth * {"int8": 1, "int16": 2, "float32": 4}[step.weight],
        lanes=step.lanes,
        registers=step.registers,
    )


def _prim_func(w: Conv2DWorkload, g: ConvGeometry, step: ConvStep, tile: Tile, form: RequantizeForm) -> PrimFunc:
    channels = w.out_channels // w.groups
    starts = channel_starts(channels, tile)
    blocks = len(starts) // tile.vecs
    steps = -(-g.run // step.depth)
    step_size = tile.vecs * tile.lanes * step.depth
    block_size = g.taps_h * g.taps_w * steps * step_size
    tiles = -(-g.out_cols // tile.cols)
    segments = -(-tiles // tile.segment)
    rows = g.images * g.out_rows * segments
    with IRBuilder() as builder:
        with T.prim_func(s_tir=True):
            T.func_attr({"tirx.noalias": True, "global_symbol": "main"})
            operands = Operands(w, (w.groups * blocks * block_size,), step.weight, form)
            data = stage_input(operands.data, w, g, dtype=step.data, depth=step.depth)
            with T.parallel(rows * w.groups * blocks) as task:
                if tile.outer == "rows":
                    row, group_block = tirx.floordiv(task, w.groups * blocks), tirx.floormod(task, w.groups * blocks)
                else:
                    row, group_block = tirx.floormod(task, rows), tirx.floordiv(task, rows)
                line, segment = tirx.floordiv(row, segments), tirx.floormod(row, segments)
                image, out_row = tirx.floordiv(line, g.out_rows), tirx.floormod(line, g.out_rows)
                group, block = tirx.floordiv(group_block, blocks), tirx.floormod(group_block, blocks)
                line_base = image * g.image_step + out_row * g.row_step + group * (w.in_channels // w.groups)
                acc = T.alloc_buffer((tile.cols * tile.vecs * tile.lanes,), step.acc, scope="local")
                with T.serial(tile.segment) as t:
                    first = (segment * tile.segment + t) * tile.cols
                    col = tirx.min(first, g.out_cols - tile.cols) if segments * tile.segment * tile.cols > g.out_cols else first
                    vecs = []
                    for v in range(tile.vecs):
                        start = (block * tile.vecs + v) * tile.lanes
                        if len(starts) * tile.lanes > channels:
                            start = tirx.min(start, channels - tile.lanes)
                        vecs.append(group * channels + start)
                        for x in range(tile.cols):
                            T.buffer_store(acc, operands.start(tile.lanes, vecs[v]), [_index(x * tile.vecs + v, tile.lanes)])
                    _accumulate(acc, data, operands.weight, line_base + col * g.col_step, group_block * block_size, step, tile, g, steps)
                    for x in range(tile.cols):
                        for v in range(tile.vecs):
                            at = (x * tile.vecs + v) * tile.lanes
                            operands.store(acc, tile.lanes, at, line * g.out_cols + col + x, vecs[v])
    return builder.get()


def _accumulate(
    acc: Expr, data: Expr, weight: Expr, pixel_base: Expr, weight_base: Expr, step: ConvStep, tile: Tile, g: ConvGeometry, steps: int
) -> None:
    """Emit: acc += the sums of one tile."""
    lanes, size = tile.lanes, tile.lanes * step.depth
    with T.serial(g.taps_h) as kh, T.serial(g.taps_w) as kw, T.serial(steps) as s:
        pixel_at = pixel_base + kh * g.tap_h_step + kw * g.tap_w_step + s * step.depth
        weight_at = weight_base + ((kh * g.taps_w + kw) * steps + s) * tile.vecs * size
        weights = [weight.vload([weight_at + v * size], vector(step.weight, size)) for v in range(tile.vecs)]
        for x in range(tile.cols):
            pixel = step.broadcast(data, pixel_at + x * g.col_step, lanes)
            for v in range(tile.vecs):
                position = x * tile.vecs + v
                old = acc.vload([position * lanes], vector(step.acc, lanes))
                T.buffer_store(acc, step.apply(old, pixel, weights[v], lanes), [_index(position, lanes)])


def _index(position: int, lanes: int) -> Expr | int:
    """Where the position-th vector is in a flat buffer."""
    return tirx.Ramp(position * lanes, 1, lanes) if lanes > 1 else position
