"""What a convolution may be computed with: the untuned choice, direct or Winograd, by cost; and what is worth measuring besides."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice

from tvm_rsq.targets.generic.conv2d import conv_shape, step_geometry
from tvm_rsq.targets.generic.steps import ConvStep
from tvm_rsq.targets.generic.tiles import Tile, lanes_for, prefetch_pays, ranked_tiles
from tvm_rsq.targets.generic.winograd_space import winograd_choices, winograd_cost
from tvm_rsq.targets.generic.winograd_tile import WinogradTile
from tvm_rsq.targets.workload import Conv2DWorkload

# Shapes of tiles that are tried for a step at its full width, and for vectors of half the width.
_SHAPES, _NARROW_SHAPES = 8, 3
_MOST = 180


def default_choice(w: Conv2DWorkload, steps: Sequence[ConvStep], word_step: ConvStep | None) -> Tile | WinogradTile:
    """The cheapest by cost: of all `steps`, and of Winograd with `word_step` where there is one."""
    choices: list[tuple[float, Tile | WinogradTile]] = [ranked_tiles(step, conv_shape(w, step))[0] for step in steps]
    if word_step is not None:
        choices += [(winograd_cost(w, word_step, tile), tile) for tile in winograd_tiles(w, word_step)[:1]]
    return min(choices, key=lambda choice: choice[0])[1]


def winograd_tiles(w: Conv2DWorkload, word_step: ConvStep | None) -> tuple[WinogradTile, ...]:
    """The Winograd tiles worth measuring, the untuned one first; none without `word_step`."""
    return () if word_step is None else winograd_choices(w, word_step)


def default_tile(w: Conv2DWorkload, steps: Sequence[ConvStep]) -> Tile:
    """The cheapest of all `steps`."""
    return min((ranked_tiles(step, conv_shape(w, step))[0] for step in steps), key=lambda ranked: ranked[0])[1]


def direct_choices(w: Conv2DWorkload, steps: Sequence[ConvStep]) -> tuple[Tile, ...]:
    """The tiles of all `steps` that are worth measuring, the untuned choice first."""
    each = [islice(dict.fromkeys(_tiles(w, step)), _MOST // len(steps)) for step in steps]
    return tuple(dict.fromkeys([default_tile(w, steps), *(tile for tiles in each for tile in tiles)]))


def _tiles(w: Conv2DWorkload, step: ConvStep) -> Iterator[Tile]:
    g = step_geometry(w, step)
    shape, run = conv_shape(w, step), g.steps(step)
    lanes = lanes_for(shape.channels, step.lanes)
    tiles = [tile for _, tile in ranked_tiles(step, shape)[:_SHAPES]]
    # Narrower vectors overlap less where the channels do not divide; no instruction has fewer than four lanes.
    if lanes >= 8 and shape.channels % lanes:
        tiles += [tile for _, tile in ranked_tiles(step, shape, lanes // 2)[:_NARROW_SHAPES]]
    for tile in tiles[:3]:
        yield tile
        yield replace(tile, prefetch=not tile.prefetch)
        yield replace(tile, segment=max(1, tile.segment // 2))
        yield replace(tile, segment=2 * tile.segment)
    for tile in tiles:
        yield tile
        if g.gathered is None:  # a task gathers its pixels for all channels
            other = replace(tile, outer="rows" if tile.outer == "channels" else "channels")
            yield replace(other, prefetch=step.prefetches and prefetch_pays(step, shape, other))
        # What is unrolled is a run: beyond its end there is nothing.
        yield from (replace(tile, unroll=unroll) for unroll in sorted({min(2, run), min(4, run)} - {1}))
