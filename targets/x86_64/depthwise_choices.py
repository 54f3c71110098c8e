"""Which tiles of the kernels by groups of rows are worth measuring, the one that should be fastest first."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace

from tvm_rsq.targets.generic.depthwise import DepthwiseTile, Method
from tvm_rsq.targets.generic.row_groups import RowGroups
from tvm_rsq.targets.workload import Conv2DWorkload

# The staged input stays in the first-level cache, beside weights and output.
_STAGED_BYTES = 20 * 1024
# With the input of all the blocks of a task it should stay there as well.
_L1_BYTES = 28 * 1024
# Cycles (Zen 3): of a vector instruction; to stage a column of a plane of pairs, also from beyond the first-level cache; to load a vector's
# weights and enter its loop; to begin an area.
_INSTRUCTION, _STAGE, _STAGE_FAR, _LOOP, _AREA = 0.4, 5.0, 7.5, 12.0, 150.0
# Shuffles that interleave a column of a plane, by the rows of a group.
_SHUFFLES = {2: 6, 4: 8}
# Tasks to share among threads, where there are enough blocks of channels.
_TASKS = 8
# Larger filters would unroll to too much code.
_MOST_TAPS = 81


def is_grouped(w: Conv2DWorkload) -> bool:
    """Whether the kernels by groups of rows compute `w`."""
    fits = w.in_dtype == "uint8" and w.is_depthwise and w.in_channels >= 16 and w.out_width >= 2
    return fits and w.kernel[0] >= 2 and w.kernel[0] * w.kernel[1] <= _MOST_TAPS and w.dilation[0] == 1


def depthwise_choices(
    w: Conv2DWorkload, vector_bytes: int, instructions: Mapping[Method, int], most: int = 6
) -> tuple[DepthwiseTile, ...]:
    """Up to `most` tiles of each method, its cheapest first; none where these kernels do not fit.

    vector_bytes  of the CPU: 16, 32 or 64
    instructions  method ("quads", "pairs") that the CPU has, the fastest first -> how many make one product
    """
    if not is_grouped(w):
        return ()
    lanes = max(lanes for lanes in (16, 32, 64) if lanes <= min(vector_bytes, w.in_channels))

    def cost(tile: DepthwiseTile) -> float:
        return _cost(w, tile, instructions[tile.method])

    return tuple(tile for method in instructions for tile in sorted(_tiles(w, lanes, method), key=cost)[:most])


def _tiles(w: Conv2DWorkload, lanes: int, method: Method) -> Iterator[DepthwiseTile]:
    parts = range(1, -(-w.out_width // 4) + 1)
    segments = sorted({-(-w.out_width // part) for part in parts if -(-w.out_width // part) >= 2})
    for cols in (2, 4):
        for strip in range(1, min(w.out_height, 16) + 1):
            for segment in segments:
                tile = DepthwiseTile(lanes=lanes, cols=cols, method=method, strip=strip, segment=segment)
                groups = RowGroups.of(w, tile)
                smallest = strip == 1 and segment == segments[0]
                if segment < cols or (groups.staged_bytes > _STAGED_BYTES and not (smallest and cols == 2)):
                    continue
                shares = min(groups.blocks, -(-_TASKS // (w.batch * groups.strips * groups.segments)))
                yield replace(tile, blocks=-(-groups.blocks // shares))


def _cost(w: Conv2DWorkload, tile: DepthwiseTile, instructions: int) -> float:
    """Cycles of the whole convolution, up to a constant."""
    groups = RowGroups.of(w, tile)
    a_column = _INSTRUCTION * (instructions * groups.planes * w.kernel[1] + 5)
    tiles = math.ceil(tile.segment / tile.cols)
    a_vector = _LOOP + tiles * (tile.cols * a_column + 3.0)
    source_bytes = 2 * groups.staged_planes * groups.cols_in * tile.blocks * tile.lanes
    stage = _SHUFFLES[groups.depth] / _SHUFFLES[2] * (_STAGE if groups.staged_bytes + source_bytes <= _L1_BYTES else _STAGE_FAR)
    area = _AREA + tile.strip * 4 * a_vector + stage * groups.staged_planes * groups.cols_in
    return groups.strips * groups.segments * area
