"""GemmTile: how the threads of a GPU share a convolution."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

WARP = 32  # threads
ROWS, CHANNELS = 16, 8  # output pixels and channels of one product of a tensor core


@dataclass(frozen=True, slots=True, kw_only=True)
class GemmTile:
    """rows x cols products for each warp, of 16 output pixels x 8 channels each; warps_m x warps_n of them side by side in a block.

    split  warps that share the sum of one such tile: each takes a part of the products, and the sums are added at the end
    codes  "kernel": weights are codes of 4 bits, which a lane looks up in its registers; "load": they are weights by then
    """

    rows: int
    cols: int
    warps_m: int = 1
    warps_n: int = 1
    split: int = 1
    codes: Literal["load", "kernel"] = "load"

    @property
    def threads(self) -> int:
        """Of a block."""
        return WARP * self.warps_m * self.warps_n * self.split

    @property
    def pixels(self) -> int:
        """Of a warp."""
        return ROWS * self.rows

    @property
    def channels(self) -> int:
        """Of a warp."""
        return CHANNELS * self.cols

    @property
    def lane_channels(self) -> int:
        """Neighbouring channels that a lane sums, of each of its pixels."""
        return 2 * self.cols

    @property
    def shared_bytes(self) -> int:
        """Of a block: the sums that change hands."""
        return (self.split - 1) * self.warps_m * self.warps_n * self.rows * self.cols * 4 * WARP * 4
