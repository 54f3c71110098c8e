"""Where a convolution kernel finds the vectors of weights that a run of steps multiplies: as they are, or as codes.

A run is `unroll` steps; a tap of the kernel is a number of whole runs, and the rest of its steps as one shorter run. Whole runs lie one
after the other, or in streams where all weights come from memory.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from tvm.ir import Expr
from tvm.script.ir_builder import tirx as T

from tvm_rsq.targets.code_rows import CodeRows
from tvm_rsq.targets.generic.code_lookup import CodeLookup
from tvm_rsq.targets.generic.prefetch import LINE_BYTES
from tvm_rsq.targets.generic.steps import ConvStep, vector
from tvm_rsq.targets.generic.streams import Streams
from tvm_rsq.targets.generic.tiles import VALUE_BYTES, Tile

_STREAMS = 4  # at least, of codes: in C, two took the same bytes 4 % longer, one 15 %


@dataclass(frozen=True, slots=True, kw_only=True)
class PlainWeights:
    """steps: of one tap; streamed: whether all weights come from memory"""

    step: ConvStep
    tile: Tile
    steps: int
    streamed: bool = False

    @property
    def unroll(self) -> int:
        return self.tile.unroll

    @property
    def dtype(self) -> str:
        """Of the packed weights."""
        return self.step.weight

    @property
    def lanes(self) -> int:
        """Weights in a vector."""
        return self.tile.lanes * self.step.depth

    @property
    def tap_values(self) -> int:
        """Packed values of one tap in one channel block."""
        return self.steps * self._vectors * self.lanes

    @property
    def value_bytes(self) -> int:
        return VALUE_BYTES[self.dtype]

    def load(self, weight: Expr, _table: Expr | None, tap: Expr, run: Expr | int, count: int) -> list[list[Expr]]:
        """The vectors of each of `count` steps of the run-th run, vecs x parts of them.   tap: index of the tap's first value"""
        kind, vectors = vector(self.step.weight, self.lanes), self._vectors
        if count == self.unroll and self._streams.pay:
            self._streams.ask_ahead(weight, tap, run)
            starts = self._streams.starts(tap, run)
        else:
            first = tap + run * self.unroll * vectors * self.lanes
            starts = [first + i * self.lanes for i in range(count * vectors)]
        found = [weight.vload([start], kind) for start in starts]
        return [found[u * vectors : (u + 1) * vectors] for u in range(count)]

    def spread(self, blocks: int, taps: int) -> tuple[int, int, int, int] | None:
        """Of all packed weights, as Kernel says; None where the runs of a tap lie in streams and the rest of it behind them.

        blocks: channel blocks of all groups; taps: of each
        """
        streams, depth = self._streams, self.step.depth
        if not streams.pay:
            return blocks, taps * self.steps, self._vectors * self.tile.lanes, depth
        return None if self.steps % self.unroll else (blocks * taps * streams.count, streams.runs, self.tile.lanes, depth)

    def arranged(self, packed: np.ndarray) -> np.ndarray:
        """Weights in pack_conv's order, flat, as the kernel reads them, flat."""
        return self._streams.arranged(packed.reshape(-1, self.steps * self._vectors, self.lanes)).reshape(-1)

    @property
    def _streams(self) -> Streams:
        runs = self.steps // self.unroll if self.streamed else 0
        return Streams(count=self.unroll * self._vectors, runs=runs, size=self.lanes, value_bytes=self.value_bytes)

    @property
    def _vectors(self) -> int:
        """Of one step."""
        return self.tile.vecs * self.step.parts


@dataclass(frozen=True, slots=True, kw_only=True)
class CodedWeights:
    """steps: of one tap; codes: how they are packed; lookup: how the CPU looks them up; streamed: whether all weights come from memory

    Packed are (taps, groups, rows, lanes * depth) bytes for each channel block. The vectors of a run are filled up to whole groups of
    `codes.vectors`; a run is as many steps as fill them without a rest, where a tap has so many.
    """

    step: ConvStep
    tile: Tile
    steps: int
    codes: CodeRows
    lookup: CodeLookup
    streamed: bool = False

    @property
    def unroll(self) -> int:
        unroll, least = self.tile.unroll, _STREAMS * self._piece if self.streamed else 1
        while unroll * self._vectors % (self._piece * self.codes.vectors) or unroll * self._vectors < least * self.codes.vectors:
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
        kind, group, wanted = vector("uint8", self._lanes), self.codes.rows * self._lanes, count * self._vectors
        if count == self.unroll and self._streams.pay:
            self._streams.ask_ahead(weight, tap, run)
            starts = [start + i * group for start in self._streams.starts(tap, run) for i in range(self._piece)]
        else:
            first = tap + run * self._groups(self.unroll) * group
            starts = [first + i * group for i in range(self._groups(count))]
        found: list[Expr] = []
        for start in starts:
            rows = [T.bind(weight.vload([start + row * self._lanes], kind)) for row in range(self.codes.rows)]
            for codes in self.codes.unpack(rows, self._lanes)[: wanted - len(found)]:
                weights = self.lookup.apply(table, self.codes.entries, codes, self._lanes)
                if self.step.weight != "int8":
                    weights = weights.astype(vector(self.step.weight, self._lanes))
                found.append(T.bind(weights))
        return [found[u * self._vectors : (u + 1) * self._vectors] for u in range(count)]

    def arranged(self, packed: np.ndarray) -> np.ndarray:
        """Weights in pack_conv's order, flat, as (groups, codes.vectors, lanes) in the order in which the kernel reads groups."""
        taps = packed.reshape(-1, self.steps, self._vectors, self._lanes)
        whole = self.steps // self.unroll * self.unroll
        runs = [taps[:, s : s + self.unroll] for s in range(0, whole, self.unroll)]
        runs += [taps[:, whole:]] if whole < self.steps else []
        filled = []
        for part in runs:
            vectors = part.reshape(len(part), -1, self._lanes)
            missing = self._groups(part.shape[1]) * self.codes.vectors - vectors.shape[1]
            groups = np.pad(vectors, [(0, 0), (0, missing), (0, 0)])
            filled.append(groups.reshape(len(part), -1, self.codes.vectors, self._lanes))
        groups = np.concatenate(filled, axis=1)
        if self._streams.pay:
            size = self._groups(self.unroll) * (self.steps // self.unroll)
            pieces = groups[:, :size].reshape(len(groups), -1, self._piece * self.codes.vectors, self._lanes)
            groups = np.concatenate([self._streams.arranged(pieces).reshape(groups[:, :size].shape), groups[:, size:]], axis=1)
        return groups.reshape(-1, self.codes.vectors, self._lanes)

    @property
    def _streams(self) -> Streams:
        runs = self.steps // self.unroll if self.streamed else 0
        size = self._piece * self.codes.rows * self._lanes
        return Streams(count=self._groups(self.unroll) // self._piece, runs=runs, size=size, value_bytes=1)

    @property
    def _piece(self) -> int:
        """Groups that lie together: where all come from memory, a line of them."""
        return -(-LINE_BYTES // (self.codes.rows * self._lanes)) if self.streamed else 1

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
