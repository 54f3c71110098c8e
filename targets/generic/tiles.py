"""Which tile a convolution kernel computes at a time. `choose_tile` needs no measurement; a tuner may put any other Tile in its place."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from tvm_rsq.targets.generic.steps import ConvStep

# Cycles until a dependent multiply-accumulate may start, times the two that start in a cycle: fewer accumulators leave units idle.
_ACCUMULATORS_IN_FLIGHT = 10
# Each tile also computes addresses and enters loops; in multiply-accumulate instructions.
_TILE_OVERHEAD = 12
# Among tiles whose costs differ by less, the smallest: it leaves registers to the epilogue (measured: 4 to 15 % on thin 1x1 layers).
_TOLERANCE = 1.05
# Weights of one channel block that stay in the first-level cache while the pixels go by.
_L1_BYTES = 24 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """cols output pixels x vecs vectors of `lanes` output channels are held in registers, and summed up by the step of that name.

    segment  tiles that one parallel task computes one after the other along a row
    outer    what the tasks go through slowest: "rows" keeps the input in cache, "channels" the weights
    span     what the pixels of a tile are cut from: one "row", or the whole "image" (all rows of all images, one after the other)
    unroll   steps that the innermost loop takes at a time
    """

    step: str
    lanes: int
    cols: int
    vecs: int
    segment: int
    outer: Literal["rows", "channels"]
    span: Literal["row", "image"] = "row"
    unroll: int = 1


def lanes_for(channels: int, most: int) -> int:
    """The widest vector, up to `most` lanes and a power of two, that `channels` output channels can fill."""
    return min(most, 1 << (channels.bit_length() - 1))


def vectors(channels: int, lanes: int) -> int:
    """Vectors of `lanes` that cover `channels`; the last one overlaps its neighbour when they do not divide."""
    return -(-channels // lanes)


def choose_tile(step: ConvStep, *, rows: int, cols: int, channels: int, steps: int) -> Tile:
    """A tile for `rows` x `cols` pixels of `channels` channels, each summed over `steps` steps."""
    lanes = lanes_for(channels, step.lanes)
    vecs = vectors(channels, lanes)
    costs = {t: _cost(t, cols, vecs, steps) for t in _candidates(cols, vecs, step.registers - step.scratch - 1)}
    good = [t for t, cost in costs.items() if cost <= _TOLERANCE * min(costs.values())]
    best = min(good, key=lambda t: (t[0] * t[1], costs[t]))
    tiles = -(-cols // best[0])
    # A single long row is cut so that there is something to share between threads, into parts that are not too short for one.
    segments = 1 if rows > 1 else max(1, min(16, tiles // 4))
    segment = -(-tiles // segments)
    block_bytes = best[1] * lanes * steps * step.parts * step.depth * {"int8": 1, "int16": 2, "float32": 4}[step.weight]
    outer = "channels" if rows == 1 or block_bytes > _L1_BYTES else "rows"
    return Tile(step=step.name, lanes=lanes, cols=best[0], vecs=best[1], segment=segment, outer=outer)


def _candidates(cols: int, vecs: int, registers: int) -> Iterator[tuple[int, int]]:
    for n in range(1, min(vecs, 8) + 1):
        for m in range(1, min(cols, 28) + 1):
            if m * n + n <= registers or (m, n) == (1, 1):
                yield m, n


def _cost(tile: tuple[int, int], cols: int, vecs: int, steps: int) -> float:
    """Cycles for all tiles, up to a constant: of arithmetic, of loads, or waiting, whichever is longest."""
    m, n = tile
    step = max(m * n, m + n, _ACCUMULATORS_IN_FLIGHT)
    return math.ceil(cols / m) * math.ceil(vecs / n) * (steps * step + m * n * 2 + _TILE_OVERHEAD)
