"""A Winograd kernel's weights: transformed ahead of time, or plain ones that the kernel transforms as it reads them."""

from __future__ import annotations

import numpy as np
from tvm import tirx
from tvm.ir import Expr
from tvm.script.ir_builder import tirx as T

from tvm_rsq.targets.generic.steps import ConvStep, vector
from tvm_rsq.targets.generic.winograd_tile import WinogradTile
from tvm_rsq.targets.generic.winograd_transform import check_filters, transform_filters, transform_weight
from tvm_rsq.targets.workload import Conv2DWorkload

# Transformed weights of one part that stay in the first-level cache.
_L1_BYTES = 20 * 1024


class WinogradWeights:
    """How the weights of one kernel are cut: into blocks of channels, `parts` of the sum over IC, and `steps` of a part.

    shape and dtype are those of the packed weights, `step_size` is how many transformed weights one step reads at one position.
    """

    def __init__(self, w: Conv2DWorkload, step: ConvStep, tile: WinogradTile) -> None:
        self.tile, self.depth, self.side = tile, step.depth, tile.m + 2
        self.width = tile.vecs * tile.lanes
        self.step_size = self.width * step.depth
        self.blocks = -(-w.out_channels // self.width)
        steps = -(-w.in_channels // step.depth)
        most = max(1, _L1_BYTES // (2 * self.side**2 * self.step_size))
        self.steps = min(steps, 1 << (most.bit_length() - 1)) if tile.weights == "plain" else steps
        self.parts = -(-steps // self.steps)
        self.dtype = "int8" if tile.weights == "plain" else "int16"
        # Of a block, and of a part that is transformed.
        self.part_size = self.side**2 * self.steps * self.step_size
        taps = 9 if tile.weights == "plain" else self.side**2
        self.block_size = self.parts * self.steps * taps * self.step_size
        self.shape = (self.blocks * self.block_size,)

    @property
    def part_channels(self) -> int:
        """Input channels of a part; the last one is filled up."""
        return self.steps * self.depth

    def pack(self, weight: np.ndarray) -> np.ndarray:
        """OHWI -> (blocks, positions, steps, vecs, lanes, depth) int16, or (blocks, steps of all parts, vecs, taps, lanes, depth) int8."""
        channels, run = weight.shape[0], weight.shape[3]
        starts = np.minimum(np.arange(self.blocks) * self.width, channels - self.width)
        plain = self.tile.weights == "plain"
        check_filters(weight)
        u = weight.transpose(1, 2, 0, 3) if plain else transform_filters(weight, self.tile.m)
        u = np.pad(u.reshape(-1, channels, run), [(0, 0), (0, 0), (0, self.parts * self.part_channels - run)])[
            :, np.add.outer(starts, np.arange(self.width))
        ]
        u = u.reshape(u.shape[0], self.blocks, self.tile.vecs, self.tile.lanes, -1, self.depth)
        return np.ascontiguousarray(u.transpose((1, 4, 2, 0, 3, 5) if plain else (1, 0, 4, 2, 3, 5))).reshape(-1)

    def transform(self, transformed: Expr, packed: Expr, block: Expr, part: Expr) -> None:
        """Emit: transformed (positions, steps, vecs, lanes, depth) = the transform of one part of a block."""
        n, m, size, vecs = self.side, self.tile.m, self.tile.lanes * self.depth, self.tile.vecs
        with T.serial(self.steps * vecs) as s:
            at = block * self.block_size + (part * self.steps * vecs + s) * 9 * size
            taps = [T.bind(packed.vload([at + tap * size], vector("int8", size)).astype(vector("int16", size))) for tap in range(9)]
            columns = [[T.bind(x) for x in transform_weight(m, taps[b::3], T.bind)] for b in range(3)]
            for i in range(n):
                for j, value in enumerate(transform_weight(m, [columns[b][i] for b in range(3)], T.bind)):
                    start = (i * n + j) * self.steps * self.step_size + s * size
                    T.buffer_store(transformed, value, [tirx.Ramp(start, 1, size) if size > 1 else start])
