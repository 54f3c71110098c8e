"""The next channel block's weights, on their way to the second-level cache while the products of this one are formed.

Inside a network a layer finds its weights in the third-level cache or in memory: other layers have passed since the last call. The first
tile of a block would wait for them, while all others find them near. So the innermost loop asks for a line of the next block every time
(docs/benchmarks.md has what it gives).
"""

from __future__ import annotations

from dataclasses import dataclass

from tvm import tirx
from tvm.ir import Expr
from tvm.script.ir_builder import tirx as T

LINE_BYTES = 64
# Levels of cache, as llvm.prefetch names them.
FIRST_LEVEL, SECOND_LEVEL = 3, 2
_READ, _DATA = 0, 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Prefetch:
    """Which of the next block's lines each iteration asks for, so that all tiles of this block together ask for every one.

    block_bytes, blocks   of the packed weights
    tiles                 computed with one block, before the next one's turn
    iterations            of the innermost loop in a tile, at least one
    """

    block_bytes: int
    blocks: int
    tiles: int
    iterations: int

    @property
    def lines(self) -> int:
        """Asked for by one iteration."""
        return -(-self._lines_of_block // (self.tiles * self.iterations))

    @property
    def fits(self) -> bool:
        """Whether what one tile asks for lies within the weights."""
        return self._last_start >= 0

    def start(self, block: Expr | int, tile: Expr | int) -> Expr:
        """The byte of all weights from which the tile-th tile of `block` on asks, for `iterations * lines` lines, all within the weights.

        When all was asked for, or nothing follows, it is asked again for what is there: that is cheaper than a branch.
        """
        enough = -(-self._lines_of_block // (self.iterations * self.lines))
        start = tirx.min(block + 1, self.blocks - 1) * self.block_bytes + tirx.min(tile, enough - 1) * self._run
        return tirx.min(start, self._last_start)

    def emit(self, weight: Expr, value_bytes: int, start: Expr, iteration: Expr) -> None:
        """Emit what one iteration asks for; `start` counts values of `weight`, of value_bytes each."""
        for i in range(self.lines):
            at = start + (iteration * self.lines + i) * (LINE_BYTES // value_bytes)
            prefetch(weight, at)

    @property
    def _last_start(self) -> int:
        """From where on the last line that is asked for is that of the last four bytes."""
        return self.blocks * self.block_bytes - 4 - (self._run - LINE_BYTES)

    @property
    def _run(self) -> int:
        """Bytes that one tile asks for."""
        return self.iterations * self.lines * LINE_BYTES

    @property
    def _lines_of_block(self) -> int:
        """One more where blocks do not begin with a line: the last one may reach into it."""
        return -(-self.block_bytes // LINE_BYTES) + (self.block_bytes % LINE_BYTES > 0)


def prefetch(buffer: Expr, index: Expr, level: int = SECOND_LEVEL) -> None:
    """Emit: the line of buffer[index] is asked for."""
    operands = [tirx.const(operand, "int32") for operand in (_READ, level, _DATA)]
    T.evaluate(tirx.call_llvm_intrin("void", "llvm.prefetch.p0", tirx.address_of(buffer[index]), *operands))
