"""What one task of a convolution kernel computes: the outputs of a row segment in one block of channels, tile by tile.

    for each tile:                                   cols x vecs accumulators, all in registers
        for kh, kw, step of the run:                 every accumulator += pixel * weights
        epilogue, straight from the registers into the output
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from tvm import tirx
from tvm.ir import Expr
from tvm.script.ir_builder import tirx as T

from tvm_rsq.targets.generic.conv_geometry import ConvGeometry
from tvm_rsq.targets.generic.operands import Operands
from tvm_rsq.targets.generic.prefetch import Prefetch
from tvm_rsq.targets.generic.steps import vector
from tvm_rsq.targets.generic.tiles import Tile
from tvm_rsq.targets.generic.weight_layout import WeightLayout
from tvm_rsq.targets.workload import Conv2DWorkload

# Values of a staged input that is copied and read in one function: LLVM takes a buffer and a pointer into it for memory of two kinds, and
# drops or moves the stores. Where threads are started in between it cannot.
_SMALL = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvSegments:
    """layout: of the weights; block_bytes: of what is packed for one block, None: the weights themselves"""

    w: Conv2DWorkload
    g: ConvGeometry
    layout: WeightLayout
    block_bytes: int | None = None

    @property
    def tile(self) -> Tile:
        return self.layout.tile

    @property
    def width(self) -> int:
        """Pixels that tiles are cut from without a break."""
        return row_width(self.g, self.tile)

    @property
    def channels(self) -> int:
        """Of one group."""
        return self.w.out_channels // self.w.groups

    @property
    def blocks(self) -> int:
        """Of all groups."""
        return self.w.groups * self._blocks

    @property
    def block_values(self) -> int:
        """Packed weights of one block."""
        return self.g.taps_h * self.g.taps_w * self.layout.tap_values

    @property
    def rows(self) -> int:
        """Segments of one block."""
        return self.g.pixels // self.width * self._segments

    def emit(self, operands: Operands, weights: tuple[Expr, Expr | int], pixels: tuple[Expr, Expr | None], row: Expr, block: Expr) -> None:
        """Emit: the row-th segment in the block-th block.

        weights  a buffer, and where the block begins in it
        pixels   the staged input, from pixel `origin` on where the segment has its own: (data, origin), or (data, None)
        """
        w, g, tile, width, channels = self.w, self.g, self.tile, self.width, self.channels
        line, segment = tirx.floordiv(row, self._segments), tirx.floormod(row, self._segments)
        group, own_block = tirx.floordiv(block, self._blocks), tirx.floormod(block, self._blocks)
        step = self.layout.step
        # One for what is summed together: TVM puts what is small onto the stack, where LLVM finds registers, and asks its pool for more.
        acc = [T.alloc_buffer((tile.vecs * step.sums * tile.lanes,), step.acc) for _ in range(tile.cols // step.rows)]
        rest = self._tiles - segment * tile.segment
        with T.serial(tirx.min(tile.segment, rest) if self._tiles % tile.segment else tile.segment) as t:
            nth = segment * tile.segment + t
            first = tirx.min(nth * tile.cols, width - tile.cols) if width % tile.cols else nth * tile.cols
            start = group * channels + _block_start(own_block, tile, channels)
            # Less channels than a block has: the last vector overlaps its neighbour.
            vecs = [start + min(v * tile.lanes, channels - tile.lanes) for v in range(tile.vecs)]
            starts = [operands.start(tile.lanes, channel) for channel in vecs]
            for v in range(tile.vecs):
                for sums in acc:
                    _store(sums, v * step.sums, step.begin(starts[v], tile.lanes), tile.lanes)
            channel, (data, origin) = group * (w.in_channels // w.groups), pixels
            if origin is None:
                places = _pixels(data, g, tile, line, first, channel)
            else:
                # By the buffer itself, see _SMALL.
                base = (first - origin) * g.col_step + channel
                places = [(data, base + x * g.col_step) for x in range(tile.cols)]
            # Counted through all tiles that share the block.
            ahead = self._ahead(operands, block, line * self._tiles + nth if tile.outer == "channels" else t)
            _accumulate(acc, operands.book, places, weights, self.layout, g, ahead)
            finished = self._finished(acc, starts)
            # Vectors that overlap are no neighbours.
            joined = tile.vecs if tile.vecs * tile.lanes <= channels else 1
            for x in range(tile.cols):
                for v in range(0, tile.vecs, joined):
                    operands.store(finished[x], tile.lanes, v * tile.lanes, line * width + first + x, vecs[v], joined)

    def _finished(self, acc: Sequence[Expr], starts: Sequence[Expr]) -> Sequence[Expr]:
        """Emit: the sums of each pixel, vecs x lanes of them."""
        tile, step = self.tile, self.layout.step
        if (step.rows, step.sums) == (1, 1):
            return acc
        made = [T.alloc_buffer((tile.vecs * tile.lanes,), step.acc) for _ in range(tile.cols)]
        for group, sums in enumerate(acc):
            for v in range(tile.vecs):
                rows = step.finish(_load(sums, v * step.sums, step.sums, step.acc, tile.lanes), starts[v], tile.lanes)
                for x, row in enumerate(rows):
                    T.buffer_store(made[group * step.rows + x], row, [_index(v, tile.lanes)])
        return made

    @property
    def _blocks(self) -> int:
        """Of one group."""
        return -(-self.channels // (self.tile.vecs * self.tile.lanes))

    @property
    def _tiles(self) -> int:
        """Of one line."""
        return -(-self.width // self.tile.cols)

    @property
    def _segments(self) -> int:
        """Of one line."""
        return -(-self._tiles // self.tile.segment)

    def _ahead(self, operands: Operands, block: Expr, nth: Expr) -> Callable[[Expr], None] | None:
        """What each iteration of the nth tile emits; None where the tile does not ask, nothing follows, or it would ask for what is not
        there."""
        g, tile, layout = self.g, self.tile, self.layout
        iterations = g.taps_h * g.taps_w * (layout.steps // layout.unroll)
        if not tile.prefetch or not iterations or self.blocks == 1:
            return None
        shared = self._tiles * (g.pixels // self.width) if tile.outer == "channels" else min(tile.segment, self._tiles)
        unit = layout.value_bytes if self.block_bytes is None else 1
        size = self.block_values * unit if self.block_bytes is None else self.block_bytes
        prefetch = Prefetch(block_bytes=size, blocks=self.blocks, tiles=shared, iterations=iterations)
        if not prefetch.fits:
            return None
        start = T.bind(tirx.floordiv(prefetch.start(block, nth), unit))
        return partial(prefetch.emit, operands.weight, unit, start)


def row_width(g: ConvGeometry, tile: Tile) -> int:
    """Pixels that tiles are cut from without a break."""
    return g.out_cols if tile.span == "row" else g.pixels


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
    if g.images * g.image_step <= _SMALL:
        return [(data, g.offset(0, first + x) + channel) for x in range(tile.cols)]
    return [(_pointer(data, g.offset(0, first + x) + channel), 0) for x in range(tile.cols)]


def _pointer(data: Expr, index: Expr) -> Expr:
    """`data` from `index` on, by a pointer: LLVM would compute indices that it cannot see through inside the loop."""
    return T.decl_buffer(data.shape, str(data.dtype), data=T.bind(tirx.address_of(data[index])))


def _accumulate(
    acc: Sequence[Expr],
    book: Expr | None,
    pixels: Sequence[tuple[Expr, Expr]],
    weights: tuple[Expr, Expr | int],
    layout: WeightLayout,
    g: ConvGeometry,
    ahead: Callable[[Expr], None] | None,
) -> None:
    """Emit: acc[x] += the sums of the x-th `rows` pixels of the tile; `ahead` emits what each iteration asks for.

    weights  a buffer, and where the block begins in it; book: of codes
    """
    step, tile, steps, unroll = layout.step, layout.tile, layout.steps, layout.unroll
    lanes, values = tile.lanes, step.parts * step.depth
    weight, base = weights

    def emit(kh: Expr, kw: Expr, run: Expr | int, count: int) -> None:
        tap = base + (kh * g.taps_w + kw) * layout.tap_values
        at = kh * g.tap_h_step + kw * g.tap_w_step + run * unroll * values
        loaded = layout.load(weight, book, tap, run, count)
        for first in range(0, count, step.run):
            some = min(step.run, count - first)
            rows = [pixels[x : x + step.rows] for x in range(0, tile.cols, step.rows)]
            taken = [step.operands(row, at + first * values, some, lanes) for row in rows]
            for u in range(some):
                for sums, each in zip(acc, taken, strict=True):
                    for v in range(tile.vecs):
                        old = _load(sums, v * step.sums, step.sums, step.acc, lanes)
                        new = step.add(old, each[u], loaded[first + u][v * step.parts : (v + 1) * step.parts], lanes)
                        _store(sums, v * step.sums, new, lanes)

    whole, rest = divmod(steps, unroll)
    with T.serial(g.taps_h) as kh, T.serial(g.taps_w) as kw:
        with T.serial(whole) as run:
            if ahead is not None:
                ahead((kh * g.taps_w + kw) * whole + run)
            emit(kh, kw, run, unroll)
        if rest:
            emit(kh, kw, whole, rest)


def _load(buffer: Expr, first: int, count: int, dtype: str, lanes: int) -> list[Expr]:
    """The first-th and following vectors of a flat buffer."""
    return [buffer.vload([(first + i) * lanes], vector(dtype, lanes)) for i in range(count)]


def _store(buffer: Expr, first: int, values: Sequence[Expr], lanes: int) -> None:
    for i, value in enumerate(values):
        T.buffer_store(buffer, value, [_index(first + i, lanes)])


def _index(position: int, lanes: int) -> Expr | int:
    """Where the position-th vector is in a flat buffer."""
    return tirx.Ramp(position * lanes, 1, lanes) if lanes > 1 else position
