"""Which algorithm computes a convolution where nothing was measured: direct or Winograd."""

from __future__ import annotations

from collections.abc import Sequence

from tvm_rsq.targets.generic.conv2d import conv_shape
from tvm_rsq.targets.generic.steps import ConvStep
from tvm_rsq.targets.generic.tiles import Tile, ranked_tiles, vectors
from tvm_rsq.targets.generic.winograd_tile import WinogradTile, default_winograd_tile, tile_count, winograd_fits
from tvm_rsq.targets.workload import Conv2DWorkload

# As in generic/tiles.py, fitted to 3x3 layers of 16 to 512 channels on AVX2: a multiply-accumulate with the loads beside it, the transforms
# of one vector, and a byte of transformed weights.
_PRODUCT, _TRANSFORM, _WEIGHT_BYTE = 1.35, 6, 1 / 4
# Weights that stay in the second-level cache.
_L2_BYTES = 256 * 1024


def default_choice(w: Conv2DWorkload, steps: Sequence[ConvStep], word_step: ConvStep | None) -> Tile | WinogradTile:
    """The cheapest by cost: of all `steps`, and of Winograd with `word_step` where there is one."""
    choices = [ranked_tiles(step, conv_shape(w, step))[0] for step in steps]
    choices += [(_winograd_cost(w, word_step, tile), tile) for tile in winograd_tiles(w, word_step)]
    return min(choices, key=lambda choice: choice[0])[1]


def winograd_tiles(w: Conv2DWorkload, word_step: ConvStep | None) -> list[WinogradTile]:
    """The Winograd tiles worth measuring, none without `word_step`."""
    return [default_winograd_tile(w, word_step, m) for m in (4, 2) if word_step is not None and winograd_fits(w, m)]


def _winograd_cost(w: Conv2DWorkload, step: ConvStep, tile: WinogradTile) -> float:
    positions, count = (tile.m + 2) ** 2, tile_count(w, tile.m)
    products = positions * count * -(-w.in_channels // step.depth) * vectors(w.out_channels, tile.lanes)
    transforms = positions * count * (w.in_channels + w.out_channels) / tile.lanes
    weight_bytes = positions * w.in_channels * w.out_channels * 2
    far = weight_bytes * _WEIGHT_BYTE if weight_bytes > _L2_BYTES else 0
    return products * max(step.work, 1) * _PRODUCT + transforms * _TRANSFORM + far
