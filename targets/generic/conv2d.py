"""Convolution and dense for any CPU: one template over the target's multiply-accumulate step and a tile.

    parallel over (row segment, channel block), in the tile's order; over row segments alone where each stages its own pixels; over
        channel blocks where their weights are made of codes first
            the segment's outputs in the block (conv_segment.py)

What does not divide is not masked: the last tile of a row and the last block of the channels move back to overlap their neighbours, and
store the same values again. So the output must not share memory with an input (a residual, say).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from tvm import tirx
from tvm.ir import Expr
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T
from tvm.tirx import PrimFunc

from tvm_rsq.targets.code_rows import CodeRows
from tvm_rsq.targets.generic.block_codes import BlockCodes
from tvm_rsq.targets.generic.choice_checks import check_step
from tvm_rsq.targets.generic.code_lookup import CodeLookup
from tvm_rsq.targets.generic.conv_geometry import ConvGeometry, conv_geometry, gathered_geometry
from tvm_rsq.targets.generic.conv_segment import ConvSegments, row_width
from tvm_rsq.targets.generic.narrow import CLIP, Narrow
from tvm_rsq.targets.generic.operands import Operands
from tvm_rsq.targets.generic.pack import pack_conv
from tvm_rsq.targets.generic.staging import gather_pixels, stage_input, stage_padded, stage_pixels, stages_own_pixels
from tvm_rsq.targets.generic.steps import ConvStep
from tvm_rsq.targets.generic.streams import waits_for_memory
from tvm_rsq.targets.generic.tiles import ConvShape, Tile
from tvm_rsq.targets.generic.weight_layout import CodedWeights, PlainWeights, WeightLayout
from tvm_rsq.targets.kernel import Kernel
from tvm_rsq.targets.numerics import RequantizeForm
from tvm_rsq.targets.workload import Conv2DWorkload

_GATHERED_BYTES = 16 * 1024
_TASKS = 4  # blocks, or parts of their pixels, that threads share where each block is expanded first: more would expand it more often


def conv2d(
    w: Conv2DWorkload, step: ConvStep, form: RequantizeForm, tile: Tile, narrow: Narrow = CLIP, lookup: CodeLookup | None = None
) -> Kernel:
    """The kernel of `w` made of `step`, which fits its dtype and can be made as narrow as `tile.lanes`.

    lookup  how codes of weights are looked up, where `w` has any

    ValueError: a tile that is larger than the output, or no tile of `step`.
    """
    check_step(tile, step)
    g = step_geometry(w, step)
    if g.gathered is not None:  # whose taps are copied by the segment, which should stay in the first-level cache
        tile = replace(tile, segment=max(1, min(tile.segment, _GATHERED_BYTES // (g.col_step * tile.cols))))
    width, channels = row_width(g, tile), w.out_channels // w.groups
    if tile.cols > width or tile.lanes > channels:
        raise ValueError(f"tile {tile} is larger than the {width} pixels of a row or {channels} channels; take one of conv2d_space")

    packed = _layout(w, g, step, tile, lookup)
    if isinstance(packed, BlockCodes):
        segments = ConvSegments(w=w, g=g, layout=packed.plain, block_bytes=packed.block_bytes)
    else:
        segments = ConvSegments(w=w, g=g, layout=packed)

    def pack(weight: np.ndarray) -> np.ndarray:
        return packed.arranged(pack_conv(weight, groups=w.groups, geometry=g, tile=tile, step=step))

    kind = "dense" if g.pixels == 1 and w.kernel == (1, 1) else "conv2d"
    coded = f"_{'blocks' if tile.codes == 'block' else 'codes'}{w.code_bits}" if w.code_bits else ""
    name = f"{kind}_{step.name}_{tile.cols}x{tile.vecs}x{tile.lanes}{coded}"
    made = Kernel(name=name, prim_func=_prim_func(segments, packed, form, narrow), pack_weight=pack)
    if isinstance(packed, PlainWeights):
        return replace(made, spread=packed.spread(segments.blocks, g.taps_h * g.taps_w))
    return replace(made, codes=packed.codes)


def _layout(w: Conv2DWorkload, g: ConvGeometry, step: ConvStep, tile: Tile, lookup: CodeLookup | None) -> WeightLayout | BlockCodes:
    steps, streamed = g.steps(step), waits_for_memory(w)
    plain = PlainWeights(step=step, tile=tile, steps=steps, streamed=streamed)
    if not w.code_bits:
        return plain
    if lookup is None:
        raise ValueError(f"weights of {w.code_bits} bits, expected a lookup; make the kernel by KernelLibrary.conv2d")
    codes = CodeRows(w.code_bits)
    if tile.codes == "block":
        plain = PlainWeights(step=step, tile=tile, steps=steps)
        return BlockCodes(plain=plain, values=g.taps_h * g.taps_w * plain.tap_values, codes=codes, lookup=lookup)
    return CodedWeights(step=step, tile=tile, steps=steps, codes=codes, lookup=lookup, streamed=streamed)


def step_geometry(w: Conv2DWorkload, step: ConvStep) -> ConvGeometry:
    """The geometry of `w` for a kernel made of `step`."""
    # Codes may be looked up by the block, for all segments at once; what is promised of sums in int16 is of taps where they are.
    if w.groups == 1 and not w.code_bits and not w.accumulate16 and step.data == w.in_dtype and step.gathers(w):
        return gathered_geometry(w, step.depth * step.parts)
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
        run=g.steps(step),
    )


def _prim_func(segments: ConvSegments, packed: WeightLayout | BlockCodes, form: RequantizeForm, narrow: Narrow) -> PrimFunc:
    w, g, tile, step, blocks, rows = segments.w, segments.g, segments.tile, segments.layout.step, segments.blocks, segments.rows
    block_size = packed.block_bytes if isinstance(packed, BlockCodes) else segments.block_values
    with IRBuilder() as builder:
        with T.prim_func(s_tir=True):
            T.func_attr({"tirx.noalias": True, "global_symbol": "main"})
            operands = Operands(w, (blocks * block_size,), packed.dtype, form, narrow)

            def weights(block: Expr) -> tuple[Expr, Expr]:
                return operands.weight, block * block_size

            if g.gathered is not None:
                padded = stage_padded(operands.data, w, g.gathered)
                with T.parallel(rows) as row:
                    count = min(tile.segment * tile.cols, segments.width)
                    origin = tirx.min(row * count, segments.width - count)
                    data = gather_pixels(padded, g, origin, count)
                    with T.serial(blocks) as block:
                        segments.emit(operands, weights(block), (data, origin), row, block)
            elif not isinstance(packed, BlockCodes) and stages_own_pixels(w, g, tile, rows, step.data):
                with T.parallel(rows) as row:
                    count = tile.segment * tile.cols
                    origin = tirx.min(row * count, segments.width - count)
                    data = stage_pixels(operands.data, w, origin, count, step.data)
                    with T.serial(blocks) as block:
                        segments.emit(operands, weights(block), (data, origin), row, block)
            else:
                data = stage_input(operands.data, w, g, dtype=step.data, depth=step.depth * step.parts)
                if isinstance(packed, BlockCodes):
                    parts = min(rows, -(-_TASKS // blocks))
                    with T.parallel(blocks * parts) as task:
                        block, part = tirx.floordiv(task, parts), tirx.floormod(task, parts)
                        expanded = packed.expand(operands.weight, operands.book, block)
                        first, end = tirx.floordiv(part * rows, parts), tirx.floordiv((part + 1) * rows, parts)
                        with T.serial(end - first) as row:
                            segments.emit(operands, (expanded, 0), (data, None), first + row, block)
                else:
                    with T.parallel(rows * blocks) as task:
                        if tile.outer == "rows":
                            row, block = tirx.floordiv(task, blocks), tirx.floormod(task, blocks)
                        else:
                            row, block = tirx.floormod(task, rows), tirx.floordiv(task, rows)
                        segments.emit(operands, weights(block), (data, None), row, block)
    return builder.get()
