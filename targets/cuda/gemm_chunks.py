"""A convolution as a matrix product of bytes: how its sum over taps and channels is cut, and the order of weights that goes with it.

A chunk is 16 neighbouring bytes of the input under one output pixel; a step is four chunks, one for each of the lanes that share a pixel:
64 products, two of the tensor core's 32.

    sum over taps (kh, kw) and channels  ->  runs of neighbouring bytes  ->  chunks, the last filled up with weights of 0  ->  steps
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from tvm_rsq.targets.cuda.gemm_tile import CHANNELS, GemmTile
from tvm_rsq.targets.workload import Conv2DWorkload

CHUNK = 16  # bytes
STEP = 4  # chunks


@dataclass(frozen=True)
class GemmChunks:
    """Of `w`, whose activations are bytes.

    A run is the channels of a group under one tap; where these are no whole words, and lie next to the next tap's, those of a row of taps.
    """

    w: Conv2DWorkload

    @cached_property
    def grain(self) -> int:
        """Bytes that a load takes: all addresses are multiples of it."""
        group = self.w.in_channels // self.w.groups
        return next((grain for grain in (16, 8, 4) if not self.w.in_channels % grain and not group % grain), 1)

    @property
    def joins_taps(self) -> bool:
        """Whether a run goes along a row of taps."""
        return self.grain == 1 and self.w.groups == 1 and self.w.dilation[1] == 1

    @property
    def runs(self) -> int:
        return self.w.kernel[0] * (1 if self.joins_taps else self.w.kernel[1])

    @property
    def run(self) -> int:
        """Bytes."""
        return self.w.in_channels // self.w.groups * (self.w.kernel[1] if self.joins_taps else 1)

    @property
    def run_chunks(self) -> int:
        return -(-self.run // CHUNK)

    @property
    def chunks(self) -> int:
        return self.runs * self.run_chunks

    @property
    def steps(self) -> int:
        return -(-self.chunks // STEP)

    def blocks(self, tile: GemmTile) -> int:
        """Of a warp's channels, in a group."""
        return -(-(self.w.out_channels // self.w.groups) // tile.channels)

    def packed_shape(self, tile: GemmTile) -> tuple[int, int, int, int]:
        """(products of 8 channels, steps, channel, bytes): what 32 lanes read side by side is together."""
        return self.w.groups * self.blocks(tile) * tile.cols, self.steps, CHANNELS, STEP * CHUNK

    def pack(self, weight: np.ndarray, tile: GemmTile) -> np.ndarray:
        """OHWI int8 -> `packed_shape`, flat.

        Column g of the j-th product is channel g // 2 * lane_channels + 2 j + g % 2 of its block: so a lane, which gets two columns of each
        product, has `lane_channels` neighbours.
        """
        groups, blocks = self.w.groups, self.blocks(tile)
        channels = self.w.out_channels // groups
        runs = weight.reshape(groups, channels, self.runs, self.run)
        filled = np.zeros((groups, blocks * tile.channels, self.runs, self.run_chunks * CHUNK), np.int8)
        filled[:, :channels, :, : self.run] = runs
        values = filled.reshape(groups, blocks * tile.channels, self.chunks * CHUNK)
        steps = np.zeros((groups, blocks * tile.channels, self.steps * STEP * CHUNK), np.int8)
        steps[..., : values.shape[-1]] = values
        placed = steps.reshape(groups * blocks, CHANNELS // 2, tile.cols, 2, self.steps, STEP * CHUNK)
        return np.ascontiguousarray(placed.transpose(0, 2, 4, 1, 3, 5)).reshape(-1)

    def pack_for_codes(self, weight: np.ndarray, tile: GemmTile) -> np.ndarray:
        """The same weights as (products of 8 channels and 64 values, 2, 256): what becomes the lower and the upper half of each byte.

        What is found for a word of codes is the weights of both halves in turns.
        """
        products, steps, _, _ = self.packed_shape(tile)
        pairs = self.pack(weight, tile).reshape(products * steps, -1, 2)
        return np.ascontiguousarray(pairs.transpose(0, 2, 1))
