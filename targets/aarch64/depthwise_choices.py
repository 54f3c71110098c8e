"""Which tiles of aarch64's own depthwise kernels are worth measuring, the one of the fewest instructions first."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

from tvm_rsq.targets.aarch64.depthwise_quads import LANES
from tvm_rsq.targets.aarch64.depthwise_taps import MOST_TAPS, taps_summed
from tvm_rsq.targets.generic.depthwise import DepthwiseTile
from tvm_rsq.targets.generic.row_groups import RowGroups
from tvm_rsq.targets.workload import Conv2DWorkload

# The staged input stays in the first-level cache, beside weights and output.
_STAGED_BYTES = 20 * 1024
# Instructions, as counted: to stage a column of a plane (four loads, eight zips, four stores, the loop), to enter a tile, also where the
# parity of its row is not known because more than two rows are not unrolled, and an area; of the epilogue of 16 channels.
_STAGE, _TILE, _PARITY, _AREA, _EPILOGUE = 21, 20, 24, 80, 24
# Of a pixel of 16 channels: loading a tap, multiplying it, and widening what was summed. Of a tile whose sums leave no registers to its
# weights, as of three or four pixels: what of each tap goes to the stack and back.
_LOAD, _MULTIPLY, _WIDEN, _PUSHED_OUT = 1, 2, 4, 1.7
# Tasks to share among threads, where there are enough blocks of channels.
_TASKS = 8


def is_own(w: Conv2DWorkload) -> bool:
    """Whether these kernels compute `w`."""
    return w.in_dtype == "int8" and w.is_depthwise and w.in_channels >= LANES and w.kernel[0] * w.kernel[1] <= MOST_TAPS


def depthwise_choices(w: Conv2DWorkload, *, dot: bool, most: int = 6) -> tuple[DepthwiseTile, ...]:
    """Up to `most` tiles of each method, the cheapest of all first; `dot`: whether the CPU has sdot."""
    fits = dot and w.kernel[0] >= 2 and w.dilation[0] == 1
    quads = sorted((_quads_cost(w, tile), str(tile), tile) for tile in _quads(w))[:most] if fits else []
    widths = sorted({min(w.out_width, cols) for cols in (1, 2, 3, 4)})
    taps = [DepthwiseTile(lanes=LANES, cols=cols, method="taps") for cols in widths]
    return tuple(tile for *_, tile in sorted(quads + [(_taps_cost(w, tile), str(tile), tile) for tile in taps]))


def _quads(w: Conv2DWorkload) -> Iterator[DepthwiseTile]:
    parts = range(1, -(-w.out_width // 4) + 1)
    segments = sorted({-(-w.out_width // part) for part in parts})
    for cols in (1, 2, 3, 4):
        for strip in range(1, min(w.out_height, 16) + 1):
            for segment in segments:
                tile = DepthwiseTile(lanes=LANES, cols=cols, method="quads", strip=strip, segment=segment)
                groups = RowGroups.of(w, tile, together=True)
                smallest = (cols, strip, segment) == (1, 1, segments[0])
                if segment < cols or (groups.staged_size > _STAGED_BYTES and not smallest):
                    continue
                shares = min(groups.blocks, -(-_TASKS // (w.batch * groups.strips * groups.segments)))
                yield replace(tile, blocks=-(-groups.blocks // shares))


def _quads_cost(w: Conv2DWorkload, tile: DepthwiseTile) -> float:
    """Instructions of one block of channels."""
    groups = RowGroups.of(w, tile, together=True)
    positions = (tile.cols - 1) * w.stride[1] + (w.kernel[1] - 1) * w.dilation[1] + 1
    weights = 4 * groups.planes * w.kernel[1]
    # Weights that do not stay in registers beside the sums are read again for every tile, two registers at a time.
    again = weights / 2 if weights / 2 + 2 * tile.cols > 16 else 0
    parity = _PARITY if groups.parities > 1 and tile.strip > 2 else 0
    a_tile = _TILE + again + parity + groups.planes * positions * 2 + tile.cols * (weights + _EPILOGUE)
    tiles = math.ceil(tile.segment / tile.cols)
    area = _AREA + groups.staged_planes * groups.cols_in * _STAGE + tile.strip * tiles * a_tile
    return groups.strips * groups.segments * area


def _taps_cost(w: Conv2DWorkload, tile: DepthwiseTile) -> float:
    """Instructions of one block of channels."""
    taps = w.kernel[0] * w.kernel[1]
    a_pixel = taps * (_LOAD + _MULTIPLY) + math.ceil(taps / taps_summed(w)) * _WIDEN + _EPILOGUE
    a_tile = _TILE / 2 + taps * _LOAD + tile.cols * a_pixel
    # The sums of four pixels are half of the registers: beyond two, weights and pixels push each other out.
    a_tile += _PUSHED_OUT * taps if tile.cols > 2 else 0
    return w.batch * w.out_height * math.ceil(w.out_width / tile.cols) * a_tile
