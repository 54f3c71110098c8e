"""Codes that become weights a channel block at a time, just before all pixels go by: one lookup a weight and call, not one a tile.

The plain weights of one block are in the caches meanwhile, and nowhere afterwards.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from tvm import tirx
from tvm.ir import Expr
from tvm.script.ir_builder import tirx as T

from tvm_rsq.targets.code_rows import CodeRows
from tvm_rsq.targets.generic.code_lookup import CodeLookup
from tvm_rsq.targets.generic.steps import vector
from tvm_rsq.targets.generic.weight_layout import PlainWeights


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockCodes:
    """plain: how the kernel reads a block of weights that are expanded; values: of them; codes: how they are packed; lookup: looked up

    Packed are (blocks, groups, rows, lanes) bytes; a block is filled up to whole groups of `codes.vectors` vectors.
    """

    plain: PlainWeights
    values: int
    codes: CodeRows
    lookup: CodeLookup

    @property
    def dtype(self) -> str:
        """Of what is packed."""
        return "uint8"

    @property
    def block_bytes(self) -> int:
        return self._groups * self.codes.rows * self.plain.lanes

    def arranged(self, packed: np.ndarray) -> np.ndarray:
        """Weights in pack_conv's order, flat, as (groups, codes.vectors, lanes)."""
        blocks = packed.reshape(-1, self.values)
        missing = self._groups * self.codes.vectors * self.plain.lanes - self.values
        return np.pad(blocks, [(0, 0), (0, missing)]).reshape(-1, self.codes.vectors, self.plain.lanes)

    def expand(self, weight: Expr, table: Expr, block: Expr) -> Expr:
        """Emit: the block's weights in memory of their own, which is returned.   weight: packed; table: of codes.entries int8"""
        lanes = self.plain.lanes
        made = T.alloc_buffer((self._groups * self.codes.vectors * lanes,), self.plain.dtype)
        with T.serial(self._groups) as group:
            start = block * self.block_bytes + group * self.codes.rows * lanes
            rows = [T.bind(weight.vload([start + row * lanes], vector("uint8", lanes))) for row in range(self.codes.rows)]
            for place, codes in enumerate(self.codes.unpack(rows, lanes)):
                weights = self.lookup.apply(table, self.codes.entries, codes, lanes)
                if self.plain.dtype != "int8":
                    weights = weights.astype(vector(self.plain.dtype, lanes))
                at = (group * self.codes.vectors + place) * lanes
                T.buffer_store(made, weights, [tirx.Ramp(at, 1, lanes) if lanes > 1 else at])
        return made

    @property
    def _groups(self) -> int:
        """Of one block."""
        return -(-self.values // (self.codes.vectors * self.plain.lanes))
