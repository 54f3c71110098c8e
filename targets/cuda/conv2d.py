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

from tvm_rsq.targets.code_rows import CodeRows
from tvm_rsq.targets.cuda.code_lookup import PermuteLookup, as_words
from tvm_rsq.targets.cuda.gemm_chunks import CHUNK, STEP, GemmChunks
from tvm_rsq.targets.cuda.gemm_tile import CHANNELS, WARP, GemmTile
from tvm_rsq.targets.cuda.lane_epilogue import LaneEpilogue
from tvm_rsq.targets.cuda.lane_pixels import WORDS, LanePixels, words
from tvm_rsq.targets.cuda.warp_functions import address, load_bytes, mma
from tvm_rsq.targets.generic.staging import flat
from tvm_rsq.targets.kernel import Kernel
from tvm_rsq.targets.workload import Conv2DWorkload

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
                    pixels = LanePixels(w, chunks, exact=count % (tile.pixels * tile.warps_m) == 0)
                    for i in range(2 * tile.rows):
                        pixels.add(first + i * CHANNELS + tirx.floordiv(lane, STEP), group)
                    sums = T.alloc_buffer((tile.rows * tile.cols * 4,), "int32", scope="local")
                    with T.unroll(tile.rows * tile.cols * 4) as i:
                        T.buffer_store(sums, 0, [i])
                    load_weights = self._weight_loader(weight, table, group * n_blocks + n_block, lane)
                    self._sum(sums, data, load_weights, pixels, lane, part)
                    channel = T.bind(n_block * tile.channels + tirx.floormod(lane, STEP) * tile.lane_channels)
                    outputs = pixels.outputs

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
                    T.evaluate(load_bytes(address(into, j * WORDS), source, 0, tirx.const(CHUNK, "int32"), 0, CHUNK))
                    return
                codes = as_words(weight.vload([place * (CHUNK // 2)], f"uint8x{CHUNK // 2}"), CHUNK // 2)
                for i, word in enumerate(T.bind(code) for code in codes):
                    for k, found in enumerate(lookup.nibbles(registers, word)):
                        T.buffer_store(into, found, [j * WORDS + 2 * i + k])

        return load

    def _sum(
        self, sums: Expr, data: Expr, load_weights: Callable[[Expr, Expr], None], pixels: LanePixels, lane: Expr, part: Expr
    ) -> None:
        tile, steps = self.tile, self.chunks.steps
        share = -(-steps // tile.split)
        begin = T.bind(part * share)
        count = share if tile.split == 1 else T.bind(tirx.max(tirx.min(steps - begin, share), 0))
        last = steps - 1
        held = [(words(2 * tile.rows), words(tile.cols)) for _ in range(2)]

        def load(into: int, step: Expr) -> None:
            a, b = held[into]
            step = T.bind(tirx.min(begin + step, last))
            pixels.load(a, data, step, lane)
            load_weights(b, step)

        def multiply(held_in: int) -> None:
            a, b = held[held_in]
            # As loops: TVM takes seconds for hundreds of calls; nvcc unrolls them.
            with T.unroll(2) as k, T.unroll(tile.rows) as i, T.unroll(tile.cols) as j:
                upper, lower = address(a, i * (2 * WORDS) + k * 2), address(a, i * (2 * WORDS) + (WORDS + k * 2))
                T.evaluate(mma(address(sums, (i * tile.cols + j) * 4), upper, lower, address(b, j * WORDS + k * 2)))

        load(0, tirx.const(0, "int32"))
        with T.serial((count + 1) // 2 if isinstance(count, int) else tirx.floordiv(count + 1, 2)) as pair:
            load(1, pair * 2 + 1)
            multiply(0)
            load(0, pair * 2 + 2)
            with T.If(pair * 2 + 1 < count), T.Then():
                multiply(1)

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
