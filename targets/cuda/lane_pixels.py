"""The output pixels of a lane: where their windows lie in the input, and the bytes of them that a step multiplies."""

from __future__ import annotations

from dataclasses import dataclass, field

from tvm import tirx
from tvm.ir import Expr
from tvm.script.ir_builder import tirx as T

from tvm_rsq.targets.carrier import offset
from tvm_rsq.targets.cuda.gemm_chunks import CHUNK, STEP, GemmChunks
from tvm_rsq.targets.cuda.warp_functions import address, load_bytes
from tvm_rsq.targets.workload import Conv2DWorkload

WORDS = 4  # of a chunk


@dataclass(frozen=True)
class _Pixel:
    """An output pixel of a lane: m, its number; where the window begins in the input, as row, column and flat index."""

    m: Expr
    row: Expr
    col: Expr
    origin: Expr


@dataclass(frozen=True)
class LanePixels:
    """Of a lane of a convolution's kernel, in the order in which they are added.

    exact  whether all of them are there: the pixels of the output are a multiple of a block's
    """

    w: Conv2DWorkload
    chunks: GemmChunks
    exact: bool
    _pixels: list[_Pixel] = field(default_factory=list, init=False)

    @property
    def _count(self) -> int:
        return self.w.batch * self.w.out_height * self.w.out_width

    @property
    def outputs(self) -> list[tuple[Expr, Expr | None]]:
        """Of each its number, and whether there is such a one; None: there always is."""
        return [(pixel.m, None if self.exact else pixel.m < self._count) for pixel in self._pixels]

    def add(self, m: Expr, group: Expr) -> None:
        """The m-th; the last in place of those beyond it, whose sums nobody stores."""
        w = self.w
        m = T.bind(m)
        inside = m if self.exact else T.bind(tirx.min(m, self._count - 1))
        plane = w.out_height * w.out_width
        image, rest = tirx.floordiv(inside, plane), tirx.floormod(inside, plane)
        row = T.bind(tirx.floordiv(rest, w.out_width) * w.stride[0] - w.padding[0])
        col = T.bind(tirx.floormod(rest, w.out_width) * w.stride[1] - w.padding[1])
        channel = group * (w.in_channels // w.groups)
        self._pixels.append(_Pixel(m, row, col, T.bind(((image * w.height + row) * w.width + col) * w.in_channels + channel)))

    def load(self, into: Expr, data: Expr, step: Expr, lane: Expr) -> None:
        """The lane's chunk of every pixel. Beyond the input, and beyond the sum, q is the zero point."""
        w, chunks = self.w, self.chunks
        pad = w.input_zero_point - offset(w.in_dtype)
        number = T.bind(step * STEP + tirx.floormod(lane, STEP))
        whole = chunks.chunks % STEP == 0
        if chunks.runs == 1:
            run, at = tirx.const(0, "int32"), T.bind(number * CHUNK)
        elif chunks.run_chunks % STEP == 0:  # the lanes of a pixel are in one run
            run = T.bind(tirx.floordiv(step, chunks.run_chunks // STEP))
            at = T.bind((step - run * (chunks.run_chunks // STEP)) * (STEP * CHUNK) + tirx.floormod(lane, STEP) * CHUNK)
        else:
            run = T.bind(tirx.floordiv(number, chunks.run_chunks))
            at = T.bind((number - run * chunks.run_chunks) * CHUNK)
        if chunks.joins_taps:
            tap_row, tap_col = run, 0
        elif w.kernel[1] == 1:
            tap_row, tap_col = run, 0
        else:
            tap_row = T.bind(tirx.floordiv(run, w.kernel[1]))
            tap_col = run - tap_row * w.kernel[1]
        down, right = T.bind(tap_row * w.dilation[0]), tap_col if isinstance(tap_col, int) else T.bind(tap_col * w.dilation[1])
        there = T.bind((down * w.width + right) * w.in_channels + at)
        left = T.bind(chunks.run - at if whole else tirx.Select(number < chunks.chunks, chunks.run - at, 0))
        for i, pixel in enumerate(self._pixels):
            first, valid = self._range(pixel, down, right, at, left)
            T.evaluate(load_bytes(address(into, i * WORDS), address(data, pixel.origin + there), first, valid, pad, chunks.grain))

    def _range(self, pixel: _Pixel, down: Expr, right: Expr | int, at: Expr, left: Expr) -> tuple[Expr | int, Expr]:
        """Which bytes of a chunk lie in the input: from the first on, before the end."""
        w = self.w
        inside = []
        if w.padding[0] or self._reaches(0):
            inside += [pixel.row + down >= 0, pixel.row + down < w.height]
        if self.chunks.joins_taps:
            start = pixel.col * w.in_channels + at  # of the chunk, in its row of the input
            end = tirx.min(left, w.width * w.in_channels - start) if w.padding[1] or self._reaches(1) else left
            return T.bind(tirx.max(-start, 0)), T.bind(tirx.Select(tirx.all(*inside), end, 0) if inside else end)
        if w.padding[1] or self._reaches(1):
            inside += [pixel.col + right >= 0, pixel.col + right < w.width]
        return 0, T.bind(tirx.Select(tirx.all(*inside), left, 0)) if inside else left

    def _reaches(self, axis: int) -> bool:
        """Whether windows go beyond the end of the input."""
        w = self.w
        size, out = ((w.height, w.out_height), (w.width, w.out_width))[axis]
        return (out - 1) * w.stride[axis] - w.padding[axis] + (w.kernel[axis] - 1) * w.dilation[axis] >= size


def words(chunks: int) -> Expr:
    """Registers of so many chunks."""
    made = T.alloc_buffer((chunks * WORDS,), "uint32", scope="local")
    # TVM cuts an allocation down to what it sees accessed, and what functions do with addresses it does not see.
    T.buffer_store(made, tirx.const(0, "uint32"), [chunks * WORDS - 1])
    return made
