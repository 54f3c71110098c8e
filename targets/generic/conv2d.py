"""Convolution and dense for any CPU: one template over the target's multiply-accumulate step and a tile.

    parallel over (row segment, channel block), in the tile's order; over row segments alone where each stages its own pixels
        for each tile of the segment:                    cols x vecs accumulators, all in registers
            for kh, kw, step of the run:  every accumulator += pixel * weights
            epilogue, straight from the registers into the output

What does not divide is not masked: the last tile of a row and the last block of the channels move back to overlap their neighbours, and
store the same values again. So the output must not share memory with an input (a residual, say).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from tvm import tirx
from tvm.ir import Expr
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T
from tvm.tirx import PrimFunc

from tvm_rsq.targets.code_rows import CodeRows
from tvm_rsq.targets.generic.choice_checks import check_choice
from tvm_rsq.targets.generic.code_lookup import CodeLookup
from tvm_rsq.targets.generic.conv_geometry import ConvGeometry, conv_geometry
from tvm_rsq.targets.generic.narrow import CLIP, Narrow
from tvm_rsq.targets.generic.operands import Operands
from tvm_rsq.targets.generic.pack import pack_conv
from tvm_rsq.targets.generic.prefetch import Prefetch
from tvm_rsq.targets.generic.staging import stage_input, stage_pixels, stages_own_pixels
from tvm_rsq.targets.generic.steps import ConvStep, vector
from tvm_rsq.targets.generic.streams import waits_for_memory
from tvm_rsq.targets.generic.tiles import ConvShape, Tile
from tvm_rsq.targets.generic.weight_layout import CodedWeights, PlainWeights, WeightLayout
from tvm_rsq.targets.kernel import Kernel
from tvm_rsq.targets.numerics import RequantizeForm
from tvm_rsq.targets.workload import Conv2DWorkload


def conv2d(
    w: Conv2DWorkload, step: ConvStep, form: RequantizeForm, tile: Tile, narrow: Narrow = CLIP, lookup: CodeLookup | None = None
) -> Kernel:
    """The kernel of `w` made of `step`, which fits its dtype and can be made as narrow as `tile.lanes`.

    lookup  how codes of weights are looked up, where `w` has any

    ValueError: a tile that is larger than the output, or no tile of `step`.
    """
    check_choice(tile, step)
    g = step_geometry(w, step)
    width, channels = _width(g, tile), w.out_channels // w.groups
    if tile.cols > width or tile.lanes > channels:
        raise ValueError(f"tile {tile} is larger than the {width} pixels of a row or {channels} channels; take one of conv2d_space")

    layout = _layout(w, g, step, tile, lookup)

    def pack(weight):
        return layout.arranged(pack_conv(weight, groups=w.groups, geometry=g, tile=tile, step=step))

    kind = "dense" if g.pixels == 1 and w.kernel == (1, 1) else "conv2d"
    coded = f"_codes{w.code_bits}" if w.code_bits else ""
    name = f"{kind}_{step.name}_{tile.cols}x{tile.vecs}x{tile.lanes}{coded}"
    codes = layout.codes if isinstance(layout, CodedWeights) else None
    return Kernel(name=name, prim_func=_prim_func(w, g, step, tile, layout, form, narrow), pack_weight=pack, codes=codes)


def _layout(w: Conv2DWorkload, g: ConvGeometry, step: ConvStep, tile: Tile, lookup: CodeLookup | None) -> WeightLayout:
    common = {"step": step, "tile": tile, "steps": g.steps(step), "streamed": waits_for_memory(w)}
    if not w.code_bits:
        return PlainWeights(**common)
    if lookup is None:
        raise ValueError(f"weights of {w.code_bits} bits, expected a lookup; make the kernel by KernelLibrary.conv2d")
    return CodedWeights(codes=CodeRows(w.code_bits), lookup=lookup, **common)


def step_geometry(w: Conv2DWorkload, step: ConvStep) -> ConvGeometry:
    """The geometry of `w` for a kernel made of `step`."""
    return conv_geometry(w, copied=step.data != w.in_dtype)


def conv_shape(w: Conv2DWorkload, step: ConvStep) -> ConvShape:
    """The size of `w` as choosing a tile sees it."""
    g = step_geometry(w, step)
    return ConvShape(
        rows=g.images * g.out_rows,
        cols=g.out_cols,
        groups=w.groups,
        channels=w.out_channels // w.groups,
        steps=g.taps_h * g.taps_w * g.steps(step),
    )


def _width(g: ConvGeometry, tile: Tile) -> int:
    """Pixels that tiles are cut from without a break."""
    return g.out_cols if tile.span == "row" else g.pixels


def _prim_func(
    w: Conv2DWorkload, g: ConvGeometry, step: ConvStep, tile: Tile, layout: WeightLayout, form: RequantizeForm, narrow: Narrow
) -> PrimFunc:
    channels, width = w.out_channels // w.groups, _width(g, tile)
    blocks = -(-channels // (tile.vecs * tile.lanes))
    block_size = g.taps_h * g.taps_w * layout.tap_values
    tiles = -(-width // tile.cols)
    segments = -(-tiles // tile.segment)
    rows = g.pixels // width * segments
    prefetch = _prefetch(g, tile, layout, block_size, w.groups * blocks, tiles)

    def emit(operands: Operands, data: Expr, origin: Expr | None, row: Expr, group_block: Expr) -> None:
        """Emit: the outputs of a row segment in one channel block; data is staged, from pixel `origin` on where the segment has its own."""
        line, segment = tirx.floordiv(row, segments), tirx.floormod(row, segments)
        group, block = tirx.floordiv(group_block, blocks), tirx.floormod(group_block, blocks)
        # One for each pixel: TVM puts what is small onto the stack, where LLVM finds registers, and asks its pool for the rest.
        acc = [T.alloc_buffer((tile.vecs * tile.lanes,), step.acc) for _ in range(tile.cols)]
        rest = tiles - segment * tile.segment
        with T.serial(tirx.min(tile.segment, rest) if tiles % tile.segment else tile.segment) as t:
            first = (segment * tile.segment + t) * tile.cols
            if width % tile.cols:
                first = tirx.min(first, width - tile.cols)
            start = group * channels + _block_start(block, tile, channels)
            # Less channels than a block has: the last vector overlaps its neighbour.
            vecs = [start + min(v * tile.lanes, channels - tile.lanes) for v in range(tile.vecs)]
            for v in range(tile.vecs):
                for x in range(tile.cols):
                    T.buffer_store(acc[x], operands.start(tile.lanes, vecs[v]), [_index(v, tile.lanes)])
            channel = group * (w.in_channels // w.groups)
            if origin is None:
                pixels = _pixels(data, g, tile, line, first, channel)
            else:
                own = _pointer(data, (first - origin) * g.col_step + channel)
                pixels = [(own, x * g.col_step) for x in range(tile.cols)]
            ahead = None
            if prefetch is not None:
                # Counted through all tiles that share the block.
                nth = line * tiles + segment * tile.segment + t if tile.outer == "channels" else t
                start_ahead = T.bind(tirx.floordiv(prefetch.start(group_block, nth), layout.value_bytes))
                ahead = partial(prefetch.emit, operands.weight, layout.value_bytes, start_ahead)
            _accumulate(acc, operands, pixels, group_block * block_size, layout, g, ahead)
            # Vectors that overlap are no neighbours.
            joined = tile.vecs if tile.vecs * tile.lanes <= channels else 1
            for x in range(tile.cols):
                for v in range(0, tile.vecs, joined):
                    operands.store(acc[x], tile.lanes, v * tile.lanes, line * width + first + x, vecs[v], joined)

    with IRBuilder() as builder:
        with T.prim_func(s_tir=True):
            T.func_attr({"tirx.noalias": True, "global_symbol": "main"})
            operands = Operands(w, (w.groups * blocks * block_size,), layout.dtype, form, narrow)
            if stages_own_pixels(w, g, tile, rows, step.data):
                with T.parallel(rows) as row:
                    count = tile.segment * tile.cols
                    origin = tirx.min(row * count, width - count)
                    data = stage_pixels(operands.data, w, origin, count, step.data)
                    with T.serial(w.groups * blocks) as group_block:
                        emit(operands, data, origin, row, group_block)
            else:
                data = stage_input(operands.data, w, g, dtype=step.data, depth=step.depth * step.parts)
                with T.parallel(rows * w.groups * blocks) as task:
                    if tile.outer == "rows":
                        row, group_block = tirx.floordiv(task, w.groups * blocks), tirx.floormod(task, w.groups * blocks)
                    else:
                        row, group_block = tirx.floormod(task, rows), tirx.floordiv(task, rows)
                    emit(operands, data, None, row, group_block)
    return builder.get()


def _prefetch(g: ConvGeometry, tile: Tile, layout: WeightLayout, block_size: int, blocks: int, tiles: int) -> Prefetch | None:
    """None where the tile does not ask, nothing follows, or a tile would ask for what is not there.   tiles: of one line"""
    iterations = g.taps_h * g.taps_w * (layout.steps // layout.unroll)
    if not tile.prefetch or not iterations or blocks == 1:
        return None
    shared = tiles * (g.pixels // _width(g, tile)) if tile.outer == "channels" else min(tile.segment, tiles)
    prefetch = Prefetch(block_bytes=block_size * layout.value_bytes, blocks=blocks, tiles=shared, iterations=iterations)
    return prefetch if prefetch.fits else None


def _block_start(block: Expr, tile: Tile, channels: int) -> Expr | int:
    """First channel of a block, of `channels`; see pack.channel_starts."""
    size = tile.vecs * tile.lanes
    if channels <= size:
        return 0
    return tirx.min(block * size, channels - size) if channels % size else block * size


def _pixels(data: Expr, g: ConvGeometry, tile: Tile, line: Expr, first: Expr, channel: Expr) -> Sequence[tuple[Expr, Expr]]:
    """Where the runs of the tile's pixels start: buffers and indices."""
    if tile.span == "row":
        base = g.row_offset(line) + first * g.col_step + channel
        return [(data, base + x * g.col_step) for x in range(tile.cols)]
    return [(_pointer(data, g.offset(0, first + x) + channel), 0) for x in range(tile.cols)]


def _pointer(data: Expr, index: Expr) -> Expr:
    """`data` from `index` on, by a pointer: LLVM would compute indices that it cannot see through inside the loop."""
    return T.decl_buffer(data.shape, str(data.dtype), data=T.bind(tirx.address_of(data[index])))


def _accumulate(
    acc: Sequence[Expr],
    operands: Operands,
    pixels: Sequence[tuple[Expr, Expr]],
    weight_base: Expr,
    layout: WeightLayout,
    g: ConvGeometry,
    ahead: Callable[[Expr], None] | None,
) -> None:
    """Emit: acc[x] += the sums of the tile's x-th pixel; `ahead` emits what each iteration asks for."""
    step, tile, steps, unroll = layout.step, layout.tile, layout.steps, layout.unroll
    lanes, values = tile.lanes, step.parts * step.depth

    def emit(kh: Expr, kw: Expr, run: Expr | int, count: int) -> None:
        tap = weight_base + (kh * g.taps_w + kw) * layout.tap_values
        for u, weights in enumerate(layout.load(operands.weight, operands.book, tap, run, count)):
            at = kh * g.tap_h_step + kw * g.tap_w_step + (run * unroll + u) * values
            for x, (data, base) in enumerate(pixels):
                pixel = [step.broadcast(data, base + at + p * step.depth, lanes) for p in range(step.parts)]
                for v in range(tile.vecs):
                    old = acc[x].vload([v * lanes], vector(step.acc, lanes))
                    new = step.apply(old, pixel, weights[v * step.parts : (v + 1) * step.parts], lanes)
                    T.buffer_store(acc[x], new, [_index(v, lanes)])

    whole, rest = divmod(steps, unroll)
    with T.serial(g.taps_h) as kh, T.serial(g.taps_w) as kw:
        with T.serial(whole) as run:
            if ahead is not None:
                ahead((kh * g.taps_w + kw) * whole + run)
            emit(kh, kw, run, unroll)
        if rest:
            emit(kh, kw, whole, rest)


def _index(position: int, lanes: int) -> Expr | int:
    """Where the position-th vector is in a flat buffer."""
    return tirx.Ramp(position * lanes, 1, lanes) if lanes > 1 else position
