"""The tiles of a Winograd kernel: the untuned one, by a cost that needs no measurement, and those worth measuring.

Costs are in multiplications that the CPU could have started meanwhile, as in generic/tiles.py; fitted to 3x3 layers of 64 to 512 channels
on AVX2.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Literal

from tvm_rsq.targets.generic.steps import ConvStep
from tvm_rsq.targets.generic.tiles import lanes_for, registers, vectors
from tvm_rsq.targets.generic.winograd_tile import WinogradTile, tile_count, winograd_fits
from tvm_rsq.targets.generic.winograd_weights import WinogradWeights
from tvm_rsq.targets.workload import Conv2DWorkload

# A product and its sum, for one unit of the step's work, and a load beside them. Reading and writing a sum; entering a loop.
_PRODUCT, _LOAD, _SUM, _TILE = 0.57, 0.2, 2, 8
# One vector at one position: of inputs or outputs, and of weights.
_TRANSFORM, _TRANSFORM_WEIGHT = 9, 2.25
# A byte of weights from beyond the second-level cache, and what stays in that.
_FAR_BYTE, _L2_BYTES = 1 / 6, 256 * 1024
# Reading a byte of transformed inputs again from there, for the next block of channels.
_PATCH_BYTE = 1 / 16
# Transformed inputs of a block of tiles: where every thread has its own, and where all share one.
_OWN_BYTES, _SHARED_BYTES = 160 * 1024, 512 * 1024
# Blocks of tiles that are enough to share out between threads.
_BLOCKS = 4


def winograd_cost(w: Conv2DWorkload, step: ConvStep, tile: WinogradTile) -> float:
    """Of one call on one thread, without staging the input."""
    weights, positions, size = WinogradWeights(w, step, tile), (tile.m + 2) ** 2, tile.cols * tile.vecs
    blocks = -(-tile_count(w, tile.m) // tile.tiles)
    chunks = blocks * -(-tile.tiles // tile.cols) * weights.blocks * weights.parts
    one = max(max(1, _PRODUCT * step.work) * size, step.latency) + _LOAD * (tile.cols + tile.vecs)
    products = positions * chunks * (weights.steps * one + size * _SUM + _TILE)
    patches = vectors(w.in_channels, 2 * tile.lanes) + weights.blocks * tile.vecs
    transforms: float = positions * blocks * tile.tiles * patches * _TRANSFORM
    if tile.weights == "plain":
        transforms += positions * blocks * weights.blocks * weights.parts * weights.steps * tile.vecs * _TRANSFORM_WEIGHT
    size_bytes = weights.shape[0] * {"int8": 1, "int16": 2}[weights.dtype]
    patch_bytes = positions * tile.tiles * w.in_channels * 2
    far = size_bytes * _FAR_BYTE if size_bytes > _L2_BYTES else 0
    far += blocks * weights.blocks * patch_bytes * _PATCH_BYTE if patch_bytes > _SHARED_BYTES else 0
    return products + transforms + far


def default_winograd_tile(w: Conv2DWorkload, step: ConvStep, m: Literal[2, 4] = 4) -> WinogradTile:
    """The untuned choice for F(m): the cheapest."""
    return min(_register_tiles(w, step, m), key=lambda tile: winograd_cost(w, step, tile))


def winograd_choices(w: Conv2DWorkload, step: ConvStep) -> tuple[WinogradTile, ...]:
    """The tiles that are worth measuring, the untuned choice first; none where Winograd does not fit."""
    best = [default_winograd_tile(w, step, m) for m in (4, 2) if winograd_fits(w, m)]
    found = {tile for default in best for tile in _near(w, step, default)}
    best.sort(key=lambda tile: winograd_cost(w, step, tile))
    return tuple(dict.fromkeys([*best[:1], *sorted(found, key=lambda tile: (winograd_cost(w, step, tile), str(tile)))]))


def _near(w: Conv2DWorkload, step: ConvStep, best: WinogradTile) -> Iterator[WinogradTile]:
    """The best tile, and others that differ in one or two things from it."""
    ranked = sorted(_register_tiles(w, step, best.m), key=lambda tile: winograd_cost(w, step, tile))
    yield from [tile for tile in ranked if tile.weights == best.weights][:3]
    yield from [tile for tile in ranked if tile.weights != best.weights][:2]
    count = tile_count(w, best.m)
    yield replace(best, outer="tiles" if best.outer == "channels" else "channels")
    yield replace(best, tiles=max(best.cols, best.tiles // 2))
    yield replace(best, tiles=min(count, 2 * best.tiles))
    yield replace(best, tiles=count, outer="channels")


def _register_tiles(w: Conv2DWorkload, step: ConvStep, m: Literal[2, 4]) -> Iterator[WinogradTile]:
    """Every number of columns and vectors that fits into registers, with a block of tiles to go with it."""
    lanes, count = lanes_for(w.out_channels, step.lanes), tile_count(w, m)
    for vecs in range(1, min(4, w.out_channels // lanes) + 1):
        for cols in range(1, min(14, count) + 1):
            if registers(step, cols, vecs) > step.registers and (cols, vecs) != (1, 1):
                continue
            tiles, outer = _block(w, m, cols, count)
            tile = WinogradTile(m=m, step=step.name, lanes=lanes, cols=cols, vecs=vecs, tiles=tiles, outer=outer)
            yield tile
            yield replace(tile, weights="plain")


def _block(w: Conv2DWorkload, m: int, cols: int, count: int) -> tuple[int, Literal["tiles", "channels"]]:
    """Tiles of a block, all blocks alike, and what to share out."""
    tile_bytes = (m + 2) ** 2 * w.in_channels * 2
    outer: Literal["tiles", "channels"] = "tiles"
    blocks = -(-count // max(cols, _OWN_BYTES // tile_bytes))
    if blocks < _BLOCKS:
        blocks, outer = -(-count // max(cols, _SHARED_BYTES // tile_bytes)), "channels"
    tiles = -(-count // blocks)
    return min(count, -(-tiles // cols) * cols), outer
