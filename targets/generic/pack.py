"""Weights in the order in which a kernel reads them."""

from __future__ import annotations

import numpy as np

from tvm_rsq.targets.generic.conv_geometry import ConvGeometry
from tvm_rsq.targets.generic.steps import ConvStep
from tvm_rsq.targets.generic.tiles import Tile


def pack_conv(weight: np.ndarray, *, groups: int, geometry: ConvGeometry, tile: Tile, step: ConvStep) -> np.ndarray:
    """OHWI -> (groups, blocks, taps_h, taps_w, steps, vecs, parts, lanes, depth), flattened.

    Runs are filled up with zeros to whole steps. The last block of a group's channels overlaps its neighbour, and where there are less
    channels than in a block, its vectors overlap each other: the kernel then stores the same values again and needs no mask.
    """
    channels = weight.shape[0] // groups
    starts = channel_starts(channels, tile)
    g = geometry
    runs = weight.reshape(groups, channels, g.taps_h, g.taps_w, g.run)
    steps = g.steps(step)
    runs = np.pad(runs, [(0, 0)] * 4 + [(0, steps * step.parts * step.depth - g.run)])
    picked = runs[:, np.add.outer(starts, np.arange(tile.lanes)).reshape(-1)]
    blocked = picked.reshape(groups, -1, tile.vecs, tile.lanes, g.taps_h, g.taps_w, steps, step.parts, step.depth)
    return np.ascontiguousarray(blocked.transpose(0, 1, 4, 5, 6, 2, 7, 3, 8), dtype=step.weight).reshape(-1)


def channel_starts(channels: int, tile: Tile) -> np.ndarray:
    """First channel of every vector of a whole number of blocks."""
    size = tile.vecs * tile.lanes
    inside = np.minimum(np.arange(tile.vecs) * tile.lanes, channels - tile.lanes)
    blocks = np.minimum(np.arange(-(-channels // size)) * size, max(0, channels - size))
    return np.add.outer(blocks, inside).reshape(-1)


def pack_depthwise(weight: np.ndarray) -> np.ndarray:
    """(C, KH, KW, 1) -> (KH, KW, C)."""
    return np.ascontiguousarray(weight[..., 0].transpose(1, 2, 0))
