"""Which tile a convolution kernel computes at a time: a cost that needs no measurement. A tuner may put any other Tile in its place.

Costs are in multiplications that the CPU could have started meanwhile (two a cycle on most). The constants were fitted once, to a register
loop and to layers of common shapes on AVX2. With VNNI, over 50 layers, the choice took 1.045 times as long as the best of up to 24 tiles in
the mean, and fitting again would have given 1.034.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

from tvm_rsq.targets.generic.steps import ConvStep

# Loads that start while a multiplication starts.
_LOADS = 4 / 3
# Widening the weights of a vector. Counting and jumping, for one step.
_WIDEN, _LOOP = 0.5, 1
# A byte of weights from the second-level cache, and the first time from the third or from memory.
_L2_BYTE, _FAR_BYTE = 1 / 64, 1 / 8
# Addresses and loops of one tile, and more for every pixel whose address is computed by itself.
_TILE, _PIXEL = 12, 6
# Weights of one channel block that stay in the first-level cache while the pixels go by; weights of a layer that stay in the second.
_L1_BYTES, _L2_BYTES = 24 * 1024, 256 * 1024
# Weights that are fetched before anyone could ask for them ahead.
_FEW_BYTES = 8 * 1024
# Pixels of a tile with a pointer each that leave a register to the weights ahead.
_POINTERS = 11
# Parts that a long row is cut into for the threads, and tiles in one of them at least.
_SEGMENTS, _SEGMENT_TILES = 16, 4
# Output channels that make it worth to give each thread channels of its own: below, two threads would write to one cache line.
_CHANNELS_TO_SHARE = 128

VALUE_BYTES = {"int8": 1, "uint8": 1, "int16": 2, "float32": 4}


Span = Literal["row", "image"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """cols output pixels x vecs vectors of `lanes` output channels are held in registers, and summed up by the step of that name.

    segment  tiles that one parallel task computes one after the other along a row
    outer    what the tasks go through slowest: "rows" keeps the input in cache, "channels" the weights
    span     what the pixels of a tile are cut from: one "row", or the whole "image" (all rows of all images, one after the other)
    unroll   steps that the innermost loop takes at a time
    prefetch  whether the loop asks for the weights of the next channel block (generic/prefetch.py)
    codes    where weights that are codes become weights: when the library is loaded ("load"), in the kernel's registers ("kernel"), or a
             channel block of them at a time ("block")
    """

    step: str
    lanes: int
    cols: int
    vecs: int
    segment: int
    outer: Literal["rows", "channels"]
    span: Span = "row"
    unroll: int = 1
    prefetch: bool = False
    codes: Literal["load", "kernel", "block"] = "load"


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvShape:
    """`rows` x `cols` pixels of `groups` x `channels` channels, each a sum over `steps` steps, in runs of `run`."""

    rows: int
    cols: int
    groups: int
    channels: int
    steps: int
    run: int


def lanes_for(channels: int, most: int) -> int:
    """The widest vector, up to `most` lanes and a power of two, that `channels` output channels can fill."""
    return min(most, 1 << (channels.bit_length() - 1))


def vectors(channels: int, lanes: int) -> int:
    """Vectors of `lanes` that cover `channels`; the last one overlaps its neighbour when they do not divide."""
    return -(-channels // lanes)


def ranked_tiles(step: ConvStep, shape: ConvShape, lanes: int | None = None) -> list[tuple[float, Tile]]:
    """Cost and tile, for tiles of `lanes` lanes (as wide as possible) that fit into registers, the cheapest first."""
    lanes = lanes or lanes_for(shape.channels, step.lanes)
    costs: dict[tuple[int, int, Span], float] = {}
    spans: tuple[Span, ...] = ("row",) if shape.rows == 1 else ("row", "image")
    for span in spans:
        width = shape.cols if span == "row" else shape.rows * shape.cols
        for n in range(1, min(vectors(shape.channels, lanes), 8) + 1):
            for m in range(step.rows, min(width, 28) + 1, step.rows):
                if registers(step, m, n) <= step.registers or (m == step.rows and n == 1):
                    costs[m, n, span] = _cost(step, shape, lanes, m, n, span)
    return [(costs[t], _tile(step, shape, lanes, *t)) for t in sorted(costs, key=lambda t: costs[t])]


def registers(step: ConvStep, m: int, n: int) -> int:
    """That a tile of m pixels and n vectors of channels takes, with the weights of one part."""
    return m // step.rows * n * step.sums + n * step.wide + m * step.held + step.scratch


def _tile(step: ConvStep, shape: ConvShape, lanes: int, m: int, n: int, span: Span) -> Tile:
    long = shape.rows == 1 or span == "image"
    tiles = -(-shape.cols * (shape.rows if span == "image" else 1) // m)
    segments = max(1, min(_SEGMENTS, tiles // _SEGMENT_TILES)) if long else 1
    far = shape.steps * n * lanes * step.parts * step.depth * VALUE_BYTES[step.weight] > _L1_BYTES
    shared = shape.groups * shape.channels >= _CHANNELS_TO_SHARE or shape.rows * shape.cols == 1
    outer: Literal["rows", "channels"] = "channels" if shared and far else "rows"
    unroll, segment = _unroll(step, shape), -(-tiles // segments)
    tile = Tile(step=step.name, lanes=lanes, cols=m, vecs=n, segment=segment, outer=outer, span=span, unroll=unroll)
    return replace(tile, prefetch=step.prefetches and prefetch_pays(step, shape, tile))


def _unroll(step: ConvStep, shape: ConvShape) -> int:
    """Steps whose pixels are loaded together. Of one pixel they have to divide the run, so that what streams of weights hold has slots."""
    most = min(step.run, shape.run)
    return math.gcd(step.run, shape.run) if shape.rows * shape.cols == 1 else most


def prefetch_pays(step: ConvStep, shape: ConvShape, tile: Tile) -> bool:
    """Whether a kernel of `tile` should ask for weights ahead: blocks follow each other, several tiles read each, there is more of them
    than a few lines, and registers are left. One channel at a time an iteration reads less than the line that it would ask for.
    """
    blocks = shape.groups * -(-vectors(shape.channels, tile.lanes) // tile.vecs)
    pixels = shape.cols * (shape.rows if tile.span == "image" else 1)
    readers = -(-pixels // tile.cols) if tile.outer == "channels" else min(tile.segment, -(-pixels // tile.cols))
    if tile.outer == "channels" and tile.span == "row":
        readers *= shape.rows
    fits = tile.span == "row" or tile.cols <= _POINTERS
    size = shape.steps * blocks * tile.vecs * tile.lanes * step.parts * step.depth * VALUE_BYTES[step.weight]
    return tile.lanes > 1 and blocks > 1 and readers > 1 and size > _FEW_BYTES and fits


def _cost(step: ConvStep, shape: ConvShape, lanes: int, m: int, n: int, span: str) -> float:
    blocks = shape.groups * -(-vectors(shape.channels, lanes) // n)
    weights, unroll = n * step.parts, min(step.run, shape.run)
    fits = registers(step, m, n) + n * step.wide * (step.parts - 1) <= step.registers
    # Weights that are not held in registers are read again for every pixel.
    room = registers(step, m, n) + (shape.steps * step.parts - 1) * n * step.wide <= step.registers
    several = (shape.rows * shape.cols if span == "image" else shape.cols) > m  # tiles that follow each other
    kept = step.keeps and room and shape.steps == shape.run and shape.run % unroll == 0 and several
    loads = step.parts * m / (unroll if step.shares else 1)
    loads += 0 if kept else weights * step.wide / step.paired * (1 if fits else m)
    one = max(step.work * m * n, loads / _LOADS, step.latency) + step.load * loads + _LOOP / unroll
    if VALUE_BYTES[step.weight] < VALUE_BYTES[step.data]:
        one += _WIDEN * weights
    block_bytes = shape.steps * weights * lanes * step.depth * VALUE_BYTES[step.weight]
    tile = shape.steps * one + step.epilogue(m, n, registers(step, m, n)) + (_PIXEL * m if span == "image" else 0)
    tile += _TILE / 2 if kept else _TILE
    if block_bytes > _L1_BYTES:
        tile += block_bytes * _L2_BYTE
    far = blocks * block_bytes * _FAR_BYTE if blocks * block_bytes > _L2_BYTES else 0
    tiles = -(-shape.rows * shape.cols // m) if span == "image" else shape.rows * -(-shape.cols // m)
    return tiles * blocks * tile + far
