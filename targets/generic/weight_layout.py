"""Where a convolution kernel finds the vectors of weights that a run of steps multiplies: as they are, or as codes.

A run is `unroll` steps; a tap of the kernel is a number of whole runs, and the rest of its steps as one shorter run.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from tvm import tirx
from tvm.ir import Expr
from tvm.script.ir_builder import tirx as T

from tvm_rsq.targets.code_rows import CodeRows
from tvm_rsq.targets.generic.code_lookup import CodeLookup
from tvm_rsq.targets.generic.prefetch import prefetch
from tvm_rsq.targets.generic.steps import ConvStep, vector
from tvm_rsq.targets.generic.tiles import VALUE_BYTES, Tile

_AHEAD = 2048  # bytes: of 512 to 8192 the fastest for 16 and 32 MB of codes, 1.8 times int8's speed where none gave 1.4


@dataclass(frozen=True, slots=True, kw_only=True)
class PlainWeights:
    """steps: of one tap"""

    step: ConvStep
    tile: Tile
    steps: int

    @property
    def unroll(self) -> int:
        return self.tile.unroll

    @property
    def dtype(self) -> str:
        """Of the packed weights."""
        return self.step.weight

    @property
    def tap_values(self) -> int:
        """Packed values of one tap in one channel block."""
        return self.steps * self._size

    @property
    def value_bytes(self) -> int:
        return VALUE_BYTES[self.dtype]

    def load(self, weight: Expr, _table: Expr | None, tap: Expr, run: Expr | int, count: int) -> list[list[Expr]]:
        """The vectors of each of `count` steps of the run-th run, vecs x parts of them.   tap: index of the tap's first value"""
        part = self.tile.lanes * self.step.depth
        kind = vector(self.step.weight, part)
        starts = [tap + (run * self.unroll + u) * self._size for u in range(count)]
        return [[weight.vload([start + i * part], kind) for i in range(self.tile.vecs * self.step.parts)] for start in starts]

    @property
    def _size(self) -> int:
        return self.tile.vecs * self.step.parts * self.tile.lanes * self.step.depth


@dataclass(frozen=True, slots=True, kw_only=True)
class CodedWeights:
    """steps: of one tap; codes: how they are packed; lookup: how the CPU looks them up; size: of all packed weights, in bytes

    streamed  whether every byte is read once, and asked for ahead: from memory the CPU's own prefetching keeps too few lines under way

    Packed are (taps, rows, lanes * depth) bytes for each channel block. The vectors of a run are filled up to whole groups of
    `codes.vectors`; a run is as many steps as fill them without a rest, where a tap has so many.
    """

    step: ConvStep
    tile: Tile
    steps: int
    codes: CodeRows
    lookup: CodeLookup
    streamed: bool = False
    size: int = 0

    @property
    def unroll(self) -> int:
        unroll = self.tile.unroll
        while unroll * self._vectors % self.codes.vectors:
            unroll += self.tile.unroll
        return max(1, min(unroll, self.steps))

    @property
    def dtype(self) -> str:
        return "uint8"

    @property
    def value_bytes(self) -> int:
        return 1

    @property
    def tap_values(self) -> int:
        whole, rest = divmod(self.steps, self.unroll)
        return (whole * self._groups(self.unroll) + self._groups(rest)) * self.codes.rows * self._lanes

    def load(self, weight: Expr, table: Expr, tap: Expr, run: Expr | int, count: int) -> list[list[Expr]]:
        """As PlainWeights.load.   table: of codes.entries int8"""
        start = tap + run * (self._groups(self.unroll) * self.codes.rows * self._lanes)
        kind, wanted = vector("uint8", self._lanes), count * self._vectors
        found: list[Expr] = []
        for group in range(self._groups(count)):
            at = start + group * self.codes.rows * self._lanes
            if self.streamed:
                for row in range(self.codes.rows):
                    prefetch(weight, tirx.min(at + row * self._lanes + _AHEAD, self.size - self._lanes))
            rows = [T.bind(weight.vload([at + row * self._lanes], kind)) for row in range(self.codes.rows)]
            for codes in self.codes.unpack(rows, self._lanes)[: wanted - len(found)]:
                weights = self.lookup.apply(table, self.codes.entries, codes, self._lanes)
                if self.step.weight != "int8":
                    weights = weights.astype(vector(self.step.weight, self._lanes))
                found.append(T.bind(weights))
        return [found[u * self._vectors : (u + 1) * self._vectors] for u in range(count)]

    def grouped(self, packed: np.ndarray) -> np.ndarray:
        """Weights in PlainWeights' order, flat, as (groups, codes.vectors, lanes), filled up with zeros."""
        taps = packed.reshape(-1, self.steps, self._vectors, self._lanes)
        whole = self.steps // self.unroll * self.unroll
        runs = [taps[:, s : s + self.unroll] for s in range(0, whole, self.unroll)]
        runs += [taps[:, whole:]] if whole < self.steps else []
        filled = []
        for part in runs:
            vectors = part.reshape(len(part), -1, self._lanes)
            missing = self._groups(part.shape[1]) * self.codes.vectors - vectors.shape[1]
            filled.append(np.pad(vectors, [(0, 0), (0, missing), (0, 0)]))
        return np.concatenate(filled, axis=1).reshape(-1, self.codes.vectors, self._lanes)

    def _groups(self, count: int) -> int:
        return -(-count * self._vectors // self.codes.vectors)

    @property
    def _vectors(self) -> int:
        """Of one step."""
        return self.tile.vecs * self.step.parts

    @property
    def _lanes(self) -> int:
        """Weights in a vector."""
        return self.tile.lanes * self.step.depth


WeightLayout = PlainWeights | CodedWeights
