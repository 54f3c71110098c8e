"""Tiles of a convolution on a GPU, and which of them is taken where nothing was measured.

Where there is much to do, a multiprocessor is busy with what its warps issue (loads, addresses, products), or waits for the second cache,
from which a block's pixels and weights come once. Where there is little, each warp waits for its own loads, step by step: more warps, and
sums that they share, help. What follows are cycles of an H100, fitted to 950 tiles of ResNet-50 at batch 32 and
MobileNetV2 at batch 1 and 32: of these, what is chosen takes 1.12 of the best's time, all layers together.
"""

from __future__ import annotations

import itertools

from tvm_rsq.targets.cuda.gemm_chunks import CHUNK, STEP, GemmChunks
from tvm_rsq.targets.cuda.gemm_tile import CHANNELS, ROWS, WARP, GemmTile
from tvm_rsq.targets.workload import Conv2DWorkload

_ROWS, _COLS = (1, 2, 4), (1, 2, 4, 8)
_WARPS = ((1, 1), (2, 1), (1, 2), (2, 2), (4, 1), (1, 4), (4, 2))
_SPLITS = (1, 2, 4, 8, 16)
_REGISTERS, _MOST_REGISTERS = 65536, 255  # of a multiprocessor, of a lane
_OTHERS, _UNALIGNED = 48, 8  # registers, as the assembler needed them to spill none
_MOST_WARPS = 16  # of a block
_MOST_SHARED = 48 * 1024  # bytes that every chip gives to a block
# Of a warp's step: of a row of products, of a column and of a product of 16 x 8 x 32; where a window is more than one pixel, the address
# of each row counts twice.
_ROW, _COLUMN, _PRODUCT, _ADDRESS = 2.25, 1.9, 3.3, 7.4
_FAR = 50  # bytes from the second cache
_WAIT = 650.0  # for a step's loads
_EPILOGUE, _JOIN = 11.0, 34.0  # of a product; of a sum that changes hands
_TOGETHER = 1.66  # how being busy and waiting add up: 1 would be one after the other, infinity side by side
_CACHED = 32 << 20  # bytes
_KEPT = 48  # of the space, the best by this measure


def gemm_space(w: Conv2DWorkload, processors: int) -> tuple[GemmTile, ...]:
    """The tiles worth measuring, the most promising first."""
    made = (
        GemmTile(rows=rows, cols=cols, warps_m=warps[0], warps_n=warps[1], split=split)
        for rows, cols, warps, split in itertools.product(_ROWS, _COLS, _WARPS, _SPLITS)
    )
    chunks = GemmChunks(w)
    fitting = [tile for tile in made if _fits(w, chunks, tile)]
    # Of equals, the one with fewer warps in a block.
    return tuple(sorted(fitting, key=lambda tile: (_cycles(w, chunks, tile, processors), tile.threads, -tile.rows, -tile.cols))[:_KEPT])


def reads_from_memory(w: Conv2DWorkload) -> bool:
    """Whether every weight is read once, and there are more than the second cache holds: fewer bytes are less time then."""
    weights = w.out_channels * w.kernel[0] * w.kernel[1] * w.in_channels // w.groups
    return w.batch * w.out_height * w.out_width <= ROWS and weights > _CACHED


def _fits(w: Conv2DWorkload, chunks: GemmChunks, tile: GemmTile) -> bool:
    pixels, channels = w.batch * w.out_height * w.out_width, w.out_channels // w.groups
    used = (
        pixels > tile.pixels * (tile.warps_m - 1) + tile.pixels // 2 * (tile.rows > 1)
        and channels > tile.channels * (tile.warps_n - 1) + tile.channels // 2 * (tile.cols > 1)
    )
    enough = tile.threads * _registers(chunks, tile) <= _REGISTERS and _registers(chunks, tile) <= _MOST_REGISTERS
    whole = enough and tile.threads <= WARP * _MOST_WARPS and tile.shared_bytes <= _MOST_SHARED
    return whole and chunks.steps >= tile.split and (used or tile == GemmTile(rows=1, cols=1))


def _registers(chunks: GemmChunks, tile: GemmTile) -> int:
    """Of a lane: sums, two steps of pixels and weights, and what addresses take, of rows that are not aligned more."""
    held = 4 * tile.rows * tile.cols + 16 * tile.rows + 8 * tile.cols
    return held + _OTHERS + (_UNALIGNED * tile.rows if chunks.grain == 1 else 0)


def _cycles(w: Conv2DWorkload, chunks: GemmChunks, tile: GemmTile, processors: int) -> float:
    pixels, blocks_n = w.batch * w.out_height * w.out_width, chunks.blocks(tile)
    blocks = -(-pixels // (tile.pixels * tile.warps_m)) * -(-blocks_n // tile.warps_n) * w.groups
    steps = -(-chunks.steps // tile.split)
    products = tile.rows * tile.cols
    step = max(2 * products * _PRODUCT, tile.rows * _ROW + tile.cols * _COLUMN)
    step += _ADDRESS * tile.rows * (2 if chunks.runs > 1 else 1)
    on_each = -(-blocks // processors)  # of the busiest
    issued = on_each * tile.threads // WARP * steps * step
    read = on_each * chunks.steps * (tile.warps_m * tile.rows * ROWS + tile.warps_n * tile.cols * CHANNELS) * STEP * CHUNK / _FAR
    loop = (max(issued, read) ** _TOGETHER + (steps * _WAIT) ** _TOGETHER) ** (1 / _TOGETHER)
    return loop + on_each * tile.warps_m * tile.warps_n * products * _EPILOGUE + (tile.split - 1) * products * 4 * _JOIN
