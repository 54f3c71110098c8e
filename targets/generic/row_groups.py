"""The input of a depthwise convolution as groups of adjacent rows, the way that the CPU multiplies them: pairs for pmaddwd and vpdpwssd,
int16, or quads for vpdpbusd and sdot, bytes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tvm import tirx
from tvm.ir import Expr
from tvm.script.ir_builder import tirx as T

from tvm_rsq.targets.carrier import offset
from tvm_rsq.targets.generic.depthwise import DepthwiseTile
from tvm_rsq.targets.workload import Conv2DWorkload


@dataclass(frozen=True, slots=True, kw_only=True)
class RowGroups:
    """How the input of `tile.strip` x `tile.segment` output pixels is staged, for one block of channels.

    Plane j holds input rows 2j ... 2j + depth - 1 of the strip, interleaved: `cols_in` columns, for each of the four vectors.
    depth     2 or 4: the rows of a group
    parities  a filter may begin at the first (0) or, with an odd stride, at the second (1) row of a plane
    planes    that one filter reads, each plane_step after the one before, so that they hold every row once
    staged_planes    of the whole strip
    strips, segments, blocks    how many there are; the last of each overlaps its neighbour
    together  the four vectors of a column lie next to each other, not each in a quarter of the whole
    """

    workload: Conv2DWorkload
    tile: DepthwiseTile
    depth: int
    parities: int
    planes: int
    plane_step: int
    staged_planes: int
    cols_in: int
    strips: int
    segments: int
    blocks: int
    together: bool = False

    @staticmethod
    def of(w: Conv2DWorkload, tile: DepthwiseTile, *, together: bool = False) -> RowGroups:
        depth = 4 if tile.method == "quads" else 2
        parities = 1 if w.stride[0] % 2 == 0 or tile.strip == 1 else 2
        planes, plane_step = -(-(w.kernel[0] + parities - 1) // depth), depth // 2
        return RowGroups(
            workload=w,
            tile=tile,
            depth=depth,
            parities=parities,
            planes=planes,
            plane_step=plane_step,
            staged_planes=(tile.strip - 1) * w.stride[0] // 2 + (planes - 1) * plane_step + 1,
            cols_in=(tile.segment - 1) * w.stride[1] + (w.kernel[1] - 1) * w.dilation[1] + 1,
            strips=-(-w.out_height // tile.strip),
            segments=-(-w.out_width // tile.segment),
            blocks=-(-w.in_channels // tile.lanes),
            together=together,
        )

    @property
    def dtype(self) -> str:
        """Of a staged value."""
        return "int16" if self.depth == 2 else self.workload.in_dtype

    @property
    def group(self) -> int:
        """Staged values of one vector of one column."""
        return self.depth * self.tile.lanes // 4

    @property
    def column(self) -> int:
        """Staged values from one column to the next."""
        return self.group * (4 if self.together else 1)

    @property
    def vector(self) -> int:
        """And from one vector of a column to the next."""
        return self.group if self.together else self.staged_size // 4

    @property
    def staged_size(self) -> int:
        return self.staged_planes * self.cols_in * 4 * self.group

    @property
    def staged_bytes(self) -> int:
        return 4 * self.staged_planes * self.cols_in * self.tile.lanes

    def stage(self, staged: Expr, data: Expr, image: Expr, corner: tuple[Expr, Expr], channel: Expr) -> None:
        """Emit: the planes whose first pixel is input pixel `corner` of `image`, which may lie in the padding, as channels `channel`..."""
        w, lanes = self.workload, self.tile.lanes
        padding = tirx.Broadcast(tirx.const(w.input_zero_point - offset(w.in_dtype), w.in_dtype), lanes)
        left = tirx.min(tirx.max(-corner[1], 0), self.cols_in)
        right = tirx.max(tirx.min(w.width - corner[1], self.cols_in), left)

        def pixel(row: Expr, col: Expr) -> Expr:
            return data.vload([((image * w.height + row) * w.width + corner[1] + col) * w.in_channels + channel], f"{w.in_dtype}x{lanes}")

        def pixel_or_padding(row: Expr, col: Expr) -> Expr:
            inside = tirx.Broadcast(tirx.all(row >= 0, row < w.height), lanes)
            return tirx.Select(inside, pixel(tirx.max(tirx.min(row, w.height - 1), 0), col), padding)

        def columns(start: Expr, end: Expr, read: Callable[[Expr, Expr], Expr]) -> None:
            with T.serial(end - start) as i:
                self._store(staged, plane * self.cols_in + start + i, [read(upper + row, start + i) for row in range(self.depth)])

        with T.serial(self.staged_planes) as plane:
            upper = corner[0] + plane * 2
            columns(tirx.const(0, "int32"), left, lambda _row, _col: padding)
            columns(right, tirx.const(self.cols_in, "int32"), lambda _row, _col: padding)
            with T.If(tirx.all(upper >= 0, upper + self.depth - 1 < w.height)):
                with T.Then():
                    columns(left, right, pixel)
                with T.Else():
                    columns(left, right, pixel_or_padding)

    def _store(self, staged: Expr, at: Expr, rows: Sequence[Expr]) -> None:
        """Emit: the four vectors of one column of a plane."""
        for vec in range(4):
            index = at * self.column + vec * self.vector
            T.buffer_store(staged, self._interleaved(rows, vec), [tirx.Ramp(index, 1, self.group)])

    def _interleaved(self, rows: Sequence[Expr], vec: int) -> Expr:
        """Channels 4 vec ... 4 vec + 3 of each 16, the rows of each next to each other."""
        lanes = self.tile.lanes
        upper = tirx.Shuffle(rows[:2], _unpack_order(lanes, 16, vec // 2))
        if self.depth == 2:
            zero = tirx.Broadcast(tirx.const(0, self.workload.in_dtype), lanes)
            return tirx.reinterpret(f"int16x{lanes // 2}", tirx.Shuffle([upper, zero], _unpack_order(lanes, 16, vec % 2)))
        lower = tirx.Shuffle(rows[2:], _unpack_order(lanes, 16, vec // 2))
        words = [tirx.reinterpret(f"uint16x{lanes // 2}", half) for half in (upper, lower)]
        return tirx.reinterpret(f"{self.dtype}x{lanes}", tirx.Shuffle(words, _unpack_order(lanes // 2, 8, vec % 2)))


def overlapping(index: Expr, size: int, total: int) -> Expr:
    """Where the index-th part of `size` begins, the last one moved back so that it ends at `total`."""
    return index * size if total % size == 0 else tirx.min(index * size, total - size)


def _unpack_order(lanes: int, block: int, half: int) -> list[int]:
    """Which of (a, b), `lanes` each, punpckl (half 0) or punpckh (half 1) lays next to each other; 128 bits hold `block` of them."""
    starts = [base + block // 2 * half + k for base in range(0, lanes, block) for k in range(block // 2)]
    return [index for k in starts for index in (k, lanes + k)]
