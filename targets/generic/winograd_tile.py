"""Which block a Winograd kernel computes at a time, and for which convolutions there is one at all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tvm_rsq.targets.generic.winograd_transform import EXACT_BELOW
from tvm_rsq.targets.workload import Conv2DWorkload


@dataclass(frozen=True, slots=True, kw_only=True)
class WinogradTile:
    """F(m x m, 3 x 3), a block of tiles at a time: transformed, then multiplied by the weights of one channel block after another.

    m       2 or 4: outputs of a tile along each axis
    step    name of the multiply-accumulate
    lanes   int32 lanes of a vector
    cols    tiles x
    vecs    vectors of output channels, that are summed up in registers; vecs * lanes is a channel block
    tiles   of a block, at least cols
    weights "transformed" ahead of time, (m + 2)^2 int16 a filter, or "plain", 9 int8, that the kernel transforms as it reads them: for
            where few tiles share them, and they come from memory
    outer   what the threads share out: blocks of "tiles", or, for one block of tiles after the other, blocks of "channels"
    """

    m: Literal[2, 4]
    step: str
    lanes: int
    cols: int
    vecs: int
    tiles: int
    weights: Literal["transformed", "plain"] = "transformed"
    outer: Literal["tiles", "channels"] = "tiles"


def winograd_fits(w: Conv2DWorkload, m: int = 2) -> bool:
    """Whether F(m) computes `w`, and exactly: 3x3, stride 1, at least one tile each way, sums that stay below EXACT_BELOW."""
    plain = w.kernel == (3, 3) and w.stride == (1, 1) and w.dilation == (1, 1) and w.groups == 1 and w.in_dtype != "float32"
    return plain and min(w.out_height, w.out_width) >= m and 255 * 127 * 9 * w.in_channels < EXACT_BELOW


def tile_grid(w: Conv2DWorkload, m: int) -> tuple[int, int]:
    """Tiles of one image along H and W."""
    return -(-w.out_height // m), -(-w.out_width // m)


def tile_count(w: Conv2DWorkload, m: int) -> int:
    """Tiles of all images."""
    high, wide = tile_grid(w, m)
    return w.batch * high * wide
