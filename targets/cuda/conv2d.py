"""Convolution, grouped convolution and dense of bytes on tensor cores, as an implicit matrix product in registers.

    blocks over (output pixels, channels, group), warps over the tiles of a block and over parts of the sum
        for each step of 64 products: the lane's chunk of each of its pixels and its weights, loaded one step ahead, and their products
        the parts of the sum together, through shared memory; the epilogue; neighbouring channels stored as one vector

A lane reads the bytes of its pixels where they are: four lanes share a pixel, and read 64 neighbouring bytes of it. Nothing is staged:
what warps of a block have in common, the first cache holds.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from tvm import tirx
from tvm.ir import Expr
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T

from tvm_rsq.targets.carrier import offset
from tvm_rsq.targets.code_rows import CodeRows
from tvm_rsq.targets.cuda.code_lookup import PermuteLookup, as_words
from tvm_rsq.targets.cuda.gemm_chunks import CHUNK, STEP, GemmChunks
from tvm_rsq.targets.cuda.gemm_tile import CHANNELS, ROWS, WARP, GemmTile
from tvm_rsq.targets.cuda.lane_epilogue import LaneEpilogue
from tvm_rsq.targets.cuda.warp_functions import address, load_bytes, mma
from tvm_rsq.targets.generic.staging import flat
from tvm_rsq.targets.kernel import Kernel
from tvm_rsq.targets.workload import Conv2DWorkload

_WORDS = 4  # of a chunk
LOOKED_UP = 4  # bits of codes that kernels look up themselves
_CODES = CodeRows(LOOKED_UP)


def conv2d(w: Conv2DWorkload, tile: GemmTile) -> Kernel:
    """The kernel of `w`, whose activations and weights are int8.   ValueError: codes to be looked up that are none of 4 bits"""
    if tile.codes == "kernel" and w.code_bits != _CODES.bits:
        raise ValueError(f"choice {tile} looks up codes of 4 bits, and {w} has {w.code_bits or 'none'}; take one of conv2d_space")
    chunks = GemmChunks(w)
    kind = "dense" if w.height == w.width == 1 and w.kernel == (1, 1) else "conv2d"
    name = f"{kind}_mma_{tile.pixels}x{tile.channels}_{tile.warps_m}x{tile.warps_n}x{tile.split}"
    prim_func = _ConvKernel(w, tile, chunks).prim_func()
    if tile.codes == "kernel":
        return Kernel(
            name=f"{name}_codes4", prim_func=prim_func, pack_weight=lambda weight: chunks.pack_for_codes(weight, tile), codes=_CODES
        )
    return Kernel(
        name=name, prim_func=prim_func, pack_weight=lambda weight: chunks.pack(weight, tile), spread=chunks.packed_shape(tile)
    )


@dataclass(frozen=True)
class _Pixel:
    """An output pixel of a lane: m, its number; where the window begins in the input, as row, column and flat index."""

    m: Expr
    row: Expr
    col: Expr
    origin: Expr


@dataclass(frozen=True)
class _ConvKernel:
    w: Conv2DWorkload
    tile: GemmTile
    chunks: GemmChunks

    def prim_func(self) -> tirx.PrimFunc:
        w, tile, chunks = self.w, self.tile, self.chunks
        count = w.batch * w.out_height * w.out_width
        n_blocks = chunks.blocks(tile)
        grid_m, grid_n = -(-count // (tile.pixels * tile.warps_m)), -(-n_blocks // tile.warps_n)
        with IRBuilder() as builder:
            with T.prim_func(s_tir=True):
                T.func_attr({"tirx.noalias": True, "tirx.is_scheduled": True, "global_symbol": "main"})
                image = (w.batch, w.height, w.width, w.in_channels)
                data = T.arg("data", T.buffer(image, w.in_dtype))
                count_of_weights, coded = math.prod(chunks.packed_shape(tile)), tile.codes == "kernel"
                weight = T.arg("weight", T.buffer((count_of_weights // (2 if coded else 1),), "uint8" if coded else "int8"))
                table = T.arg("table", T.buffer((_CODES.entries,), "int8")) if coded else None
                finish = LaneEpilogue(w, tile.lane_channels, w.groups)
                data = flat(data, math.prod(image), w.in_dtype)
                finish.flatten()
                with (
                    T.thread_binding(grid_m, thread="blockIdx.x") as block_m,
                    T.thread_binding(grid_n, thread="blockIdx.y") as block_n,
                    T.thread_binding(w.groups, thread="blockIdx.z") as group,
                    T.thread_binding(tile.threads, thread="threadIdx.x") as thread,
                ):
                    lane, warp = T.bind(thread % WARP), T.bind(tirx.floordiv(thread, WARP))
                    part = T.bind(tirx.floormod(warp, tile.split))
                    slot = T.bind(tirx.floordiv(warp, tile.split))
                    n_block = T.bind(tirx.min(block_n * tile.warps_n + tirx.floormod(slot, tile.warps_n), n_blocks - 1))
                    first = (block_m * tile.warps_m + tirx.floordiv(slot, tile.warps_n)) * tile.pixels
                    pixels = [
                        self._pixel(first + i * ROWS + half * CHANNELS + tirx.floordiv(lane, STEP), group, count)
                        for i in range(tile.rows)
                        for half in range(2)
                    ]
                    sums = T.alloc_buffer((tile.rows * tile.cols * 4,), "int32", scope="local")
                    with T.unroll(tile.rows * tile.cols * 4) as i:
                        T.buffer_store(sums, 0, [i])
                    load_weights = self._weight_loader(weight, table, group * n_blocks + n_block, lane)
                    self._sum(sums, data, load_weights, pixels, lane, part)
                    channel = T.bind(n_block * tile.channels + tirx.floormod(lane, STEP) * tile.lane_channels)
                    exact = count % (tile.pixels * tile.warps_m) == 0
                    outputs = [(pixel.m, None if exact else pixel.m < count) for pixel in pixels]

                    def sum_of(pixel: int, lane_channel: int) -> Expr:
                        i, half = divmod(pixel, 2)
                        return sums[(i * tile.cols + lane_channel // 2) * 4 + half * 2 + lane_channel % 2]

                    if tile.split == 1:
                        finish.emit(sum_of, outputs, channel, group)
                    else:
                        self._join(sums, slot, part, lane)
                        with T.If(part == 0), T.Then():
                            finish.emit(sum_of, outputs, channel, group)
        return builder.get()

    def _pixel(self, m: Expr, group: Expr, count: int) -> _Pixel:
        """The m-th; the last in place of those beyond it, whose sums nobody stores."""
        w = self.w
        m = T.bind(m)
        inside = m if count % (self.tile.pixels * self.tile.warps_m) == 0 else T.bind(tirx.min(m, count - 1))
        plane = w.out_height * w.out_width
        image, rest = tirx.floordiv(inside, plane), tirx.floormod(inside, plane)
        row = T.bind(tirx.floordiv(rest, w.out_width) * w.stride[0] - w.padding[0])
        col = T.bind(tirx.floormod(rest, w.out_width) * w.stride[1] - w.padding[1])
        channel = group * (w.in_channels // w.groups)
        return _Pixel(m, row, col, T.bind(((image * w.height + row) * w.width + col) * w.in_channels + channel))

    def _weight_loader(self, weight: Expr, table: Expr | None, n_block: Expr, lane: Expr) -> Callable[[Expr, Expr], None]:
        """Emits the load of the lane's weights of a step into words: (words, step)."""
        tile, steps = self.tile, self.chunks.steps
        lookup = PermuteLookup()
        registers = None if table is None else lookup.registers(table)

        def load(into: Expr, step: Expr) -> None:
            first = T.bind(n_block * tile.cols * steps + step)  # of products that are stored together
            with T.unroll(tile.cols) as j:
                place = (first + j * steps) * WARP + lane
                if registers is None:
                    source = address(weight, place * CHUNK)
                    T.evaluate(load_bytes(address(into, j * _WORDS), source, 0, tirx.const(CHUNK, "int32"), 0, CHUNK))
                    return
                codes = as_words(weight.vload([place * (CHUNK // 2)], f"uint8x{CHUNK // 2}"), CHUNK // 2)
                for i, word in enumerate(T.bind(code) for code in codes):
                    for k, found in enumerate(lookup.nibbles(registers, word)):
                        T.buffer_store(into, found, [j * _WORDS + 2 * i + k])

        return load

    def _sum(
        self, sums: Expr, data: Expr, load_weights: Callable[[Expr, Expr], None], pixels: list[_Pixel], lane: Expr, part: Expr
    ) -> None:
        tile, steps = self.tile, self.chunks.steps
        share = -(-steps // tile.split)
        begin = T.bind(part * share)
        count = share if tile.split == 1 else T.bind(tirx.max(tirx.min(steps - begin, share), 0))
        last = steps - 1
        held = [(_words(len(pixels)), _words(tile.cols)) for _ in range(2)]

        def load(into: int, step: Expr) -> None:
            a, b = held[into]
            step = T.bind(tirx.min(begin + step, last))
            self._load_pixels(a, data, pixels, step, lane)
            load_weights(b, step)

        def multiply(held_in: int) -> None:
            a, b = held[held_in]
            # As loops: TVM takes seconds for hundreds of calls; nvcc unrolls them.
            with T.unroll(2) as k, T.unroll(tile.rows) as i, T.unroll(tile.cols) as j:
                upper, lower = address(a, i * (2 * _WORDS) + k * 2), address(a, i * (2 * _WORDS) + (_WORDS + k * 2))
                T.evaluate(mma(address(sums, (i * tile.cols + j) * 4), upper, lower, address(b, j * _WORDS + k * 2)))

        load(0, tirx.const(0, "int32"))
        with T.serial((count + 1) // 2 if isinstance(count, int) else tirx.floordiv(count + 1, 2)) as pair:
            load(1, pair * 2 + 1)
            multiply(0)
            load(0, pair * 2 + 2)
            with T.If(pair * 2 + 1 < count), T.Then():
                multiply(1)

    def _load_pixels(self, into: Expr, data: Expr, pixels: list[_Pixel], step: Expr, lane: Expr) -> None:
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
        for i, pixel in enumerate(pixels):
            first, valid = self._range(pixel, down, right, at, left)
            T.evaluate(load_bytes(address(into, i * _WORDS), address(data, pixel.origin + there), first, valid, pad, chunks.grain))

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

    def _join(self, sums: Expr, slot: Expr, part: Expr, lane: Expr) -> None:
        """The sums of a tile's parts, added up in the first."""
        tile = self.tile
        each, slots = tile.rows * tile.cols * 4, tile.warps_m * tile.warps_n
        shared = T.alloc_buffer(((tile.split - 1) * slots * each * WARP,), "int32", scope="shared")
        with T.If(part > 0), T.Then():
            for i in range(each):
                T.buffer_store(shared, sums[i], [(((part - 1) * slots + slot) * each + i) * WARP + lane])
        T.evaluate(tirx.call_intrin("void", "tirx.tvm_storage_sync", "shared"))
        with T.If(part == 0), T.Then():
            with T.serial(tile.split - 1) as other:
                for i in range(each):
                    T.buffer_store(sums, sums[i] + shared[((other * slots + slot) * each + i) * WARP + lane], [i])


def _words(chunks: int) -> Expr:
    """Registers of so many chunks."""
    made = T.alloc_buffer((chunks * _WORDS,), "uint32", scope="local")
    # TVM cuts an allocation down to what it sees accessed, and what functions do with addresses it does not see.
    T.buffer_store(made, tirx.const(0, "uint32"), [chunks * _WORDS - 1])
    return made
