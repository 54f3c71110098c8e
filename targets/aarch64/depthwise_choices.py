"""Which tiles of aarch64's own depthwise kernels are worth measuring, the one of the fewest instructions first."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

from tvm_rsq.targets.aarch64.depthwise_quads import LANES
from tvm_rsq.targets.aarch64.depthwise_taps import MOST_TAPS
from tvm_rsq.targets.generic.depthwise import DepthwiseTile
from tvm_rsq.targets.generic.row_groups import RowGroups
from tvm_rsq.targets.workload import Conv2DWorkload

# The staged input stays in the first-level cache, beside weights and output.
_STAGED_BYTES = 20 * 1024
# Instructions: to stage a column of a plane (four loads, eight zips, two stores, the loop), to enter a tile, and an area; of the epilogue
# of 16 channels.
_STAGE, _TILE, _AREA, _EPILOGUE = 16, 10, 80, 22
# Tasks to share among threads, where there are enough blocks of channels.
_TASKS = 8


def is_own(w: Conv2DWorkload) -> bool:
    """Whether these kernels compute `w`."""
    return w.in_dtype == "int8" and w.is_depthwise and w.in_channels >= LANES and w.kernel[0] * w.kernel[1] <= MOST_TAPS


def depthwise_choices(w: Conv2DWorkload, *, dot: bool, most: int = 6) -> tuple[DepthwiseTile, ...]:
    """Up to `most` tiles of each method, its cheapest first; `dot`: whether the CPU has sdot."""
    fits = dot and w.kernel[0] >= 2 and w.dilation[0] == 1
    quads = sorted(_quads(w), key=lambda tile: _quads_cost(w, tile))[:most] if fits else []
    widths = sorted({min(w.out_width, cols) for cols in (1, 2, 3, 4)}, reverse=True)
    taps = [DepthwiseTile(lanes=LANES, cols=cols, method="taps") for cols in widths]
    return (*quads, *sorted(taps, key=lambda tile: -(-w.out_width // tile.cols) * (tile.cols + 1)))


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
    again = weights / 2 if weights + 4 * tile.cols > 28 else 0
    a_tile = _TILE + again + groups.planes * positions * 2 + tile.cols * (weights + 4 + _EPILOGUE)
    tiles = math.ceil(tile.segment / tile.cols)
    area = _AREA + groups.staged_planes * groups.cols_in * _STAGE + tile.strip * tiles * a_tile
    return groups.strips * groups.segments * area
