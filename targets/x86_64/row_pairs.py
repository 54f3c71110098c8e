"""The input of a depthwise convolution as int16 pairs of two rows, the way pmaddwd reads them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tvm import tirx
from tvm.ir import Expr
from tvm.script.ir_builder import tirx as T

from tvm_rsq.targets.generic.depthwise import DepthwiseTile
from tvm_rsq.targets.workload import Conv2DWorkload


@dataclass(frozen=True, slots=True, kw_only=True)
class RowPairs:
    """How the input of `tile.strip` x `tile.segment` output pixels is staged, for one block of channels.

    Plane j holds input rows 2j and 2j + 1 of the strip, as int16 pairs (upper, lower): `cols_in` columns, for each of the four vectors.
    parities  a filter may begin at the upper (0) or, with an odd stride, at the lower (1) row of a plane
    planes    that one filter touches at most;  staged_planes    of the whole strip
    strips, segments, blocks    how many there are; the last of each overlaps its neighbour
    """

    workload: Conv2DWorkload
    tile: DepthwiseTile
    parities: int
    planes: int
    staged_planes: int
    cols_in: int
    strips: int
    segments: int
    blocks: int

    @staticmethod
    def of(w: Conv2DWorkload, tile: DepthwiseTile) -> RowPairs:
        parities = 1 if w.stride[0] % 2 == 0 or tile.strip == 1 else 2
        planes = (w.kernel[0] + parities) // 2
        return RowPairs(
            workload=w,
            tile=tile,
            parities=parities,
            planes=planes,
            staged_planes=(tile.strip - 1) * w.stride[0] // 2 + planes,
            cols_in=(tile.segment - 1) * w.stride[1] + (w.kernel[1] - 1) * w.dilation[1] + 1,
            strips=-(-w.out_height // tile.strip),
            segments=-(-w.out_width // tile.segment),
            blocks=-(-w.in_channels // tile.lanes),
        )

    @property
    def staged_size(self) -> int:
        return self.staged_planes * self.cols_in * 2 * self.tile.lanes

    def stage(self, staged: Expr, data: Expr, image: Expr, corner: tuple[Expr, Expr], channel: Expr) -> None:
        """Emit: the planes whose first pixel is input pixel `corner` of `image`, which may lie in the padding, as channels `channel`..."""
        w, lanes = self.workload, self.tile.lanes
        padding = tirx.Broadcast(tirx.const(w.input_zero_point, "uint8"), lanes)
        left = tirx.min(tirx.max(-corner[1], 0), self.cols_in)
        right = tirx.max(tirx.min(w.width - corner[1], self.cols_in), left)

        def pixel(row: Expr, col: Expr) -> Expr:
            return data.vload([((image * w.height + row) * w.width + corner[1] + col) * w.in_channels + channel], f"uint8x{lanes}")

        def pixel_or_padding(row: Expr, col: Expr) -> Expr:
            inside = tirx.Broadcast(tirx.all(row >= 0, row < w.height), lanes)
            return tirx.Select(inside, pixel(tirx.max(tirx.min(row, w.height - 1), 0), col), padding)

        def columns(start: Expr, end: Expr, read: Callable[[Expr, Expr], Expr]) -> None:
            with T.serial(end - start) as i:
                self._store(staged, plane * self.cols_in + start + i, read(upper, start + i), read(upper + 1, start + i))

        with T.serial(self.staged_planes) as plane:
            upper = corner[0] + plane * 2
            columns(tirx.const(0, "int32"), left, lambda _row, _col: padding)
            columns(right, tirx.const(self.cols_in, "int32"), lambda _row, _col: padding)
            with T.If(tirx.all(upper >= 0, upper + 1 < w.height)):
                with T.Then():
                    columns(left, right, pixel)
                with T.Else():
                    columns(left, right, pixel_or_padding)

    def _store(self, staged: Expr, at: Expr, upper: Expr, lower: Expr) -> None:
        """Emit: the four vectors of one column of a plane."""
        lanes = self.tile.lanes
        zero = tirx.Broadcast(tirx.const(0, "uint8"), lanes)
        for vec in range(4):
            both = tirx.Shuffle([upper, lower], _unpack_order(lanes, vec // 2))
            wide = tirx.Shuffle([both, zero], _unpack_order(lanes, vec % 2))
            index = at * (lanes // 2) + vec * (self.staged_size // 4)
            T.buffer_store(staged, tirx.reinterpret(f"int16x{lanes // 2}", wide), [tirx.Ramp(index, 1, lanes // 2)])


def overlapping(index: Expr, size: int, total: int) -> Expr:
    """Where the index-th part of `size` begins, the last one moved back so that it ends at `total`."""
    return index * size if total % size == 0 else tirx.min(index * size, total - size)


def _unpack_order(lanes: int, half: int) -> list[int]:
    """Which of the bytes of (a, b), `lanes` each, punpcklbw (half 0) or punpckhbw (half 1) lays next to each other."""
    starts = [base + 8 * half + k for base in range(0, lanes, 16) for k in range(8)]
    return [index for k in starts for index in (k, lanes + k)]
