"""A convolution's input made readable without looking: padded with the zero point, in the kernel's dtype, with slack behind the end."""

from __future__ import annotations

from tvm import tirx
from tvm.ir import Expr
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T

from tvm_rsq.targets.carrier import offset
from tvm_rsq.targets.generic.conv_geometry import ConvGeometry
from tvm_rsq.targets.generic.tiles import Tile
from tvm_rsq.targets.workload import Conv2DWorkload

# A kernel may read a few values behind the last run (their weights are zero).
_SLACK = 64
# Tasks that share out the work well enough, where each of them takes all channels.
_TASKS = 8
# Values that one task copies at least, where rows are short.
_TASK_VALUES = 4096


def flat(buffer: Expr, size: int, dtype: str) -> Expr:
    """A buffer of `size` values over the memory of `buffer`, whatever its shape; named after it, for a GPU's kernels."""
    return IRBuilder.name(f"{buffer.name}_flat", T.decl_buffer((size,), dtype, data=buffer.data))


def stage_input(data: Expr, w: Conv2DWorkload, g: ConvGeometry, *, dtype: str, depth: int) -> Expr:
    """Emit the copy if one is needed; the flat buffer that the kernel reads (`data` itself, flat, if not)."""
    source = flat(data, w.batch * w.height * w.width * w.in_channels, w.in_dtype)
    if not any(w.padding) and dtype == w.in_dtype and g.run % depth == 0:
        return source
    staged = T.alloc_buffer((g.images * g.image_step + _SLACK,), dtype)
    if g.sample != (1, 1):
        _sample(staged, source, w, dtype)
    elif not any(w.padding):
        _convert(staged, source, g.images * g.image_step, dtype)
    else:
        _pad(staged, source, w, g, dtype)
    return staged


def stages_own_pixels(w: Conv2DWorkload, g: ConvGeometry, tile: Tile, tasks: int, dtype: str) -> bool:
    """Whether each of `tasks` row segments of a pointwise convolution converts the pixels that it reads, which are adjacent and no other
    segment's but for the overlap of the last: a pass over memory less, and a launch of the threads."""
    return g.flat and g.sample == (1, 1) and dtype != w.in_dtype and tile.outer == "rows" and tasks >= _TASKS


def stage_pixels(data: Expr, w: Conv2DWorkload, first: Expr, count: int, dtype: str) -> Expr:
    """Emit the copy of `count` pixels from the `first` on; a flat buffer of them."""
    source, size = flat(data, w.batch * w.height * w.width * w.in_channels, w.in_dtype), count * w.in_channels
    staged = T.alloc_buffer((size + _SLACK,), dtype)
    with T.serial(size) as i:
        T.buffer_store(staged, source[first * w.in_channels + i].astype(dtype), [i])
    return staged


def stage_padded(data: Expr, w: Conv2DWorkload, g: ConvGeometry) -> Expr:
    """Emit the copy with padding, if there is any; the flat buffer in the input's dtype, without slack that may be read."""
    return stage_input(data, w, g, dtype=w.in_dtype, depth=1)


def gather_pixels(source: Expr, g: ConvGeometry, first: Expr, count: int) -> Expr:
    """Emit the copy of the taps of `count` output pixels from the `first` on, next to each other; a flat buffer of them.

    source  as stage_padded leaves it.   g: gathered. What fills a pixel up to whole steps is not written: its weights are zero.
    """
    before = g.gathered
    assert before is not None, "a geometry whose taps are gathered"
    staged = T.alloc_buffer((count * g.col_step,), str(source.dtype))
    with T.serial(count) as pixel:
        at = T.bind(before.offset(0, first + pixel))
        for tap in range(before.taps_h):  # a run is a row of taps
            with T.serial(before.run) as i:
                T.buffer_store(staged, source[at + tap * before.tap_h_step + i], [pixel * g.col_step + tap * before.run + i])
    return staged


def _pad(staged: Expr, source: Expr, w: Conv2DWorkload, g: ConvGeometry, dtype: str) -> None:
    row, line, left = g.data_cols * w.in_channels, g.cols * w.in_channels, g.pad[1] * w.in_channels
    padding = tirx.const(0.0 if w.in_dtype == "float32" else w.input_zero_point - offset(w.in_dtype), dtype)
    # Plain loops over contiguous bytes: LLVM makes memcpy and memset of them, or widens them as vectors.
    with T.parallel(g.images * g.rows) as r:
        image, ih = tirx.floordiv(r, g.rows), tirx.floormod(r, g.rows) - g.pad[0]
        with T.If(tirx.all(ih >= 0, ih < g.data_rows)):
            with T.Then():
                if left:
                    _fill(staged, r * line, left, padding)
                with T.serial(row) as i:
                    T.buffer_store(staged, source[(image * g.data_rows + ih) * row + i].astype(dtype), [r * line + left + i])
                if line - left - row:
                    _fill(staged, r * line + left + row, line - left - row, padding)
            with T.Else():
                _fill(staged, r * line, line, padding)


def _sample(staged: Expr, source: Expr, w: Conv2DWorkload, dtype: str) -> None:
    """Every stride-th pixel of every stride-th row."""
    with T.parallel(w.batch * w.out_height) as r, T.serial(w.out_width) as col:
        image, row = tirx.floordiv(r, w.out_height), tirx.floormod(r, w.out_height)
        pixel = (image * w.height + row * w.stride[0]) * w.width + col * w.stride[1]
        with T.serial(w.in_channels) as i:
            T.buffer_store(staged, source[pixel * w.in_channels + i].astype(dtype), [(r * w.out_width + col) * w.in_channels + i])


def _convert(staged: Expr, source: Expr, size: int, dtype: str) -> None:
    """The whole input, in parts for the threads."""
    part = min(size, _TASK_VALUES)
    with T.parallel(-(-size // part)) as p, T.serial(part) as i:
        # The last part overlaps the one before it.
        at = tirx.min(p * part, size - part) + i if size % part else p * part + i
        T.buffer_store(staged, source[at].astype(dtype), [at])


def _fill(buffer: Expr, start: Expr, count: int, value: Expr) -> None:
    with T.serial(count) as i:
        T.buffer_store(buffer, value, [start + i])
