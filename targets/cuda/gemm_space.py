"""Tiles of a convolution on a GPU, and which of them is taken where nothing was measured.

A kernel is bound by one of two things. Where there is much to do, a multiprocessor is busy loading (the tile's pixels and weights come
from its first cache at every step) or multiplying. Where there is little, each warp waits for every one of its loads: more warps, and
sums that they share, help. The larger time counts; constants, in cycles, were fitted to what was measured (docs/measurements/cuda.md).
"""

from __future__ import annotations

import itertools

from tvm_rsq.targets.cuda.gemm_chunks import GemmChunks
from tvm_rsq.targets.cuda.gemm_tile import WARP, GemmTile
from tvm_rsq.targets.workload import Conv2DWorkload

_ROWS, _COLS = (1, 2, 4), (1, 2, 4, 8)
_WARPS = ((1, 1), (2, 1), (1, 2), (2, 2), (4, 1), (1, 4), (4, 2))
_SPLITS = (1, 2, 4, 8, 16)
_MOST_SUMS = 16  # products of a warp: 64 registers, as many again for what is loaded
_MOST_WARPS = 16  # of a block
_MOST_SHARED = 48 * 1024  # bytes that every chip gives to a block
_LOAD = 64  # bytes from the first cache, of a multiprocessor
_PRODUCT = 2.0  # of a product of 16 x 8 x 32, on a multiprocessor
_WAIT = 400.0  # for a step's loads
_START = 1500.0  # of a kernel, with its addresses and its epilogue
_JOIN = 12.0  # of a sum that changes hands
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


def _fits(w: Conv2DWorkload, chunks: GemmChunks, tile: GemmTile) -> bool:
    pixels, channels = w.batch * w.out_height * w.out_width, w.out_channels // w.groups
    used = (
        pixels > tile.pixels * (tile.warps_m - 1) + tile.pixels // 2 * (tile.rows > 1)
        and channels > tile.channels * (tile.warps_n - 1) + tile.channels // 2 * (tile.cols > 1)
    )
    whole = tile.rows * tile.cols <= _MOST_SUMS and tile.threads <= WARP * _MOST_WARPS and tile.shared_bytes <= _MOST_SHARED
    return whole and chunks.steps >= tile.split and (used or tile == GemmTile(rows=1, cols=1))


def _cycles(w: Conv2DWorkload, chunks: GemmChunks, tile: GemmTile, processors: int) -> float:
    pixels, blocks_n = w.batch * w.out_height * w.out_width, chunks.blocks(tile)
    blocks = -(-pixels // (tile.pixels * tile.warps_m)) * -(-blocks_n // tile.warps_n) * w.groups
    warps = tile.threads // WARP
    steps = -(-chunks.steps // tile.split)
    busy = max((tile.rows * 1024 + tile.cols * 512) / _LOAD, 2 * tile.rows * tile.cols * _PRODUCT)
    on_each = -(-blocks // processors)  # of the busiest
    return max(on_each * warps * steps * busy, steps * _WAIT) + _START + (tile.split - 1) * tile.rows * tile.cols * 4 * _JOIN
