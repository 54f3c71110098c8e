"""Which tiles of the pairs kernel are worth measuring, the one that should be fastest first."""

from __future__ import annotations

import math
from collections.abc import Iterator

from tvm_rsq.targets.generic.depthwise import DepthwiseTile
from tvm_rsq.targets.workload import Conv2DWorkload
from tvm_rsq.targets.x86_64.row_pairs import RowPairs

# The staged input stays in the first-level cache, beside weights and output.
_STAGED_BYTES = 20 * 1024
# With the input of all the blocks of a task it should stay there as well.
_L1_BYTES = 28 * 1024
# Cycles (Zen 3): of a vector instruction; to stage a column of a plane, also from beyond the first-level cache; to load a vector's weights
# and enter its loop; to begin an area.
_INSTRUCTION, _STAGE, _STAGE_FAR, _LOOP, _AREA = 0.4, 5.0, 7.5, 12.0, 150.0
# Tasks to share among threads, where there are enough blocks of channels.
_TASKS = 8
# Larger filters would unroll to too much code.
_MOST_TAPS = 81


def depthwise_choices(w: Conv2DWorkload, vector_bytes: int, most: int = 6) -> tuple[DepthwiseTile, ...]:
    """Up to `most` tiles of method "pairs" for a CPU with vectors of `vector_bytes` (16, 32 or 64); none where that kernel does not fit."""
    taps = w.kernel[0] * w.kernel[1]
    fits = w.in_dtype == "uint8" and w.is_depthwise and w.in_channels >= 16 and w.out_width >= 2
    if not fits or w.kernel[0] < 2 or taps > _MOST_TAPS or w.dilation[0] != 1:
        return ()
    lanes = max(lanes for lanes in (16, 32, 64) if lanes <= min(vector_bytes, w.in_channels))
    return tuple(sorted(_tiles(w, lanes), key=lambda tile: _cost(w, tile))[:most])


def _tiles(w: Conv2DWorkload, lanes: int) -> Iterator[DepthwiseTile]:
    parts = range(1, -(-w.out_width // 4) + 1)
    segments = sorted({-(-w.out_width // part) for part in parts if -(-w.out_width // part) >= 2})
    for cols in (2, 4):
        for strip in range(1, min(w.out_height, 16) + 1):
            for segment in segments:
                tile = DepthwiseTile(lanes=lanes, cols=cols, method="pairs", strip=strip, segment=segment)
                pairs = RowPairs.of(w, tile)
                smallest = strip == 1 and segment == segments[0]
                if segment < cols or (2 * pairs.staged_size > _STAGED_BYTES and not (smallest and cols == 2)):
                    continue
                groups = min(pairs.blocks, -(-_TASKS // (w.batch * pairs.strips * pairs.segments)))
                yield DepthwiseTile(lanes=lanes, cols=cols, method="pairs", strip=strip, segment=segment, blocks=-(-pairs.blocks // groups))


def _cost(w: Conv2DWorkload, tile: DepthwiseTile) -> float:
    """Cycles of the whole convolution, up to a constant."""
    pairs = RowPairs.of(w, tile)
    a_column = _INSTRUCTION * (2 * pairs.planes * w.kernel[1] + 5)
    tiles = math.ceil(tile.segment / tile.cols)
    a_vector = _LOOP + tiles * (tile.cols * a_column + 3.0)
    source_bytes = 2 * pairs.staged_planes * pairs.cols_in * tile.blocks * tile.lanes
    stage = _STAGE if 2 * pairs.staged_size + source_bytes <= _L1_BYTES else _STAGE_FAR
    area = _AREA + tile.strip * 4 * a_vector + stage * pairs.staged_planes * pairs.cols_in
    return pairs.strips * pairs.segments * area
