"""A row of a depthwise convolution from sums to bytes: one vector of channels at a time, two columns in one register."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tvm import tirx
from tvm.ir import Expr
from tvm.script.ir_builder import tirx as T

from tvm_rsq.targets.epilogue import is_clipped, quantized
from tvm_rsq.targets.generic.depthwise import DepthwiseTile
from tvm_rsq.targets.generic.operands import Operands

_PACK32 = {4: "llvm.x86.sse2.packssdw.128", 8: "llvm.x86.avx2.packssdw", 16: "llvm.x86.avx512.packssdw.512"}
_PACK16 = {4: "llvm.x86.sse2.packuswb.128", 8: "llvm.x86.avx2.packuswb", 16: "llvm.x86.avx512.packuswb.512"}


class DepthwiseRow:
    """The epilogue of a block of `tile.lanes` channels over a row of `tiles` tiles. Use inside a builder.

    Vector i of a block is channels 4i ... 4i + 3 of each 16. `load` once a block; `finish` for every vector and tile; `store` once a row.
    uint8 without a residual waits between the latter two in a row of int16; everything else is stored by `finish`, four channels at a time.
    """

    def __init__(self, operands: Operands, tile: DepthwiseTile, tiles: int) -> None:
        self.operands, self.tile, self.tiles, self.lanes = operands, tile, tiles, tile.lanes // 4
        e = operands.workload.epilogue
        self.waits = e.out == "uint8" and not e.residual
        self.sums = T.alloc_buffer((tile.cols * self.lanes,), "int32")
        self.bias = T.alloc_buffer((tile.lanes,), "int32")
        if self.waits:
            self.waiting = T.alloc_buffer((tiles * tile.cols * tile.lanes,), "int16")
            source = operands.multiplier
            self.rows = 2 if e.requantize == "fixed_point" else 1
            self.multiplier = T.alloc_buffer((self.rows * tile.lanes,), str(source.dtype)) if e.per_channel else None

    def load(self, channel: Expr) -> None:
        """Emit: the block at `channel` begins."""
        self.channel = channel
        self._reorder(self.bias, 0, self.operands.bias, [])
        if self.waits and self.multiplier is not None:
            for row in range(self.rows):
                self._reorder(self.multiplier, row * self.tile.lanes, self.operands.multiplier, [row] if self.rows == 2 else [])

    def start(self, vec: Expr) -> Expr:
        """What the sums of vector `vec` start from."""
        return self.bias.vload([vec * self.lanes], f"int32x{self.lanes}")

    def finish(self, sums: Sequence[Expr], vec: Expr, t: Expr, pixel: Expr) -> None:
        """Emit: the sums of the t-th tile, which begins at output pixel `pixel`, go on to the waiting row, or to the output."""
        lanes = self.lanes
        for x, total in enumerate(sums):
            T.buffer_store(self.sums, total, [tirx.Ramp(x * lanes, 1, lanes)])
        if not self.waits:
            for x in range(self.tile.cols):
                for part in range(self.tile.lanes // 16):
                    self.operands.store(self.sums, 4, x * lanes + part * 4, pixel + x, self.channel + part * 16 + vec * 4)
            return
        for x in range(self.tile.cols):
            with T.vectorized(lanes) as lane:
                T.buffer_store(self.sums, self._quantized(self.sums[x * lanes + lane], vec * lanes + lane), [x * lanes + lane])
        for x in range(0, self.tile.cols, 2):
            pair = [self.sums.vload([(x + i) * lanes], f"int32x{lanes}") for i in (0, 1)]
            both = tirx.call_llvm_pure_intrin(f"int16x{2 * lanes}", _PACK32[lanes], *pair)
            T.buffer_store(self.waiting, both, [tirx.Ramp(((t * (self.tile.cols // 2) + x // 2) * 4 + vec) * 2 * lanes, 1, 2 * lanes)])

    def store(self, pixel_of: Callable[[Expr], Expr]) -> None:
        """Emit: the waiting row to the output; tile t begins at output pixel pixel_of(t)."""
        if not self.waits:
            return
        size, e = self.tile.lanes, self.operands.workload.epilogue
        with T.serial(self.tiles) as t:
            for x in range(0, self.tile.cols, 2):
                at = (t * (self.tile.cols // 2) + x // 2) * 2 * size
                vectors = [self.waiting.vload([at + v * (size // 2)], f"int16x{size // 2}") for v in range(4)]
                # Each of the two: four channels of the one column, then the same of the other, and so on.
                packed = [tirx.call_llvm_pure_intrin(f"uint8x{size}", _PACK16[self.lanes], *vectors[i : i + 2]) for i in (0, 2)]
                quads = [tirx.reinterpret(f"int32x{size // 4}", p) for p in packed]
                for odd in (0, 1):
                    value = tirx.reinterpret(f"uint8x{size}", tirx.Shuffle(quads, _every_second(size // 4, odd)))
                    if not is_clipped(e) and e.qmax < 255:
                        value = tirx.min(value, tirx.const(e.qmax, f"uint8x{size}"))
                    if not is_clipped(e) and e.qmin > 0:
                        value = tirx.max(value, tirx.const(e.qmin, f"uint8x{size}"))
                    place = self.operands.place(pixel_of(t) + x + odd, self.channel)
                    T.buffer_store(self.operands.output, value, [tirx.Ramp(place, 1, size)])

    def _quantized(self, total: Expr, index: Expr) -> Expr:
        e, m = self.operands.workload.epilogue, self.operands.multiplier
        if self.multiplier is not None:
            multiplier = tuple(self.multiplier[row * self.tile.lanes + index] for row in range(self.rows))
        else:
            multiplier = (m[0, 0], m[1, 0]) if self.rows == 2 else (m[0],)
        return quantized(total, multiplier, None, None, e, self.operands.form)

    def _reorder(self, target: Expr, first: int, source: Expr, row: list[int]) -> None:
        for vec in range(4):
            for part in range(self.tile.lanes // 16):
                value = source.vload([*row, self.channel + part * 16 + vec * 4], f"{source.dtype}x4")
                T.buffer_store(target, value, [tirx.Ramp(first + vec * self.lanes + part * 4, 1, 4)])


def _every_second(lanes: int, odd: int) -> list[int]:
    """Of two vectors (a, b): a[odd], a[odd + 2], b[odd], b[odd + 2] in each 128 bits."""
    return [half * lanes + base + odd + k for base in range(0, lanes, 4) for half in (0, 1) for k in (0, 2)]
