"""Which algorithm computes a convolution where nothing was measured: direct or Winograd."""

from __future__ import annotations

from collections.abc import Sequence

from tvm_rsq.targets.generic.conv2d import conv_shape
from tvm_rsq.targets.generic.steps import ConvStep
from tvm_rsq.targets.generic.tiles import Tile, ranked_tiles
from tvm_rsq.targets.generic.winograd_space import winograd_choices, winograd_cost
from tvm_rsq.targets.generic.winograd_tile import WinogradTile
from tvm_rsq.targets.workload import Conv2DWorkload


def default_choice(w: Conv2DWorkload, steps: Sequence[ConvStep], word_step: ConvStep | None) -> Tile | WinogradTile:
    """The cheapest by cost: of all `steps`, and of Winograd with `word_step` where there is one."""
    choices = [ranked_tiles(step, conv_shape(w, step))[0] for step in steps]
    choices += [(winograd_cost(w, word_step, tile), tile) for tile in winograd_tiles(w, word_step)[:1]]
    return min(choices, key=lambda choice: choice[0])[1]


def winograd_tiles(w: Conv2DWorkload, word_step: ConvStep | None) -> tuple[WinogradTile, ...]:
    """The Winograd tiles worth measuring, the untuned one first; none without `word_step`."""
    return () if word_step is None else winograd_choices(w, word_step)
