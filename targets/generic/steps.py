"""The multiply-accumulate at the heart of a convolution kernel, in the form that a CPU has it. `ConvStep` is the interface."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from tvm import tirx
from tvm.ir import Expr

from tvm_rsq.targets.generic.wrapping import wrapping_sum
from tvm_rsq.targets.workload import Conv2DWorkload


class ConvStep(Protocol):
    """acc[lane] += sum over parts p, depth d of pixel[p, d] * weights[p, lane, d], exactly or, float32, with one rounding a product.

    name    of the instruction, for kernel names and tiles
    depth   adjacent values of a run that one instruction takes for each lane; weights are packed (parts, lanes, depth)
    parts   such groups in one step; runs are a whole number of steps where parts > 1
    data, weight, acc    dtypes: of the staged input, of the packed weights, of the accumulator
    lanes   output channels of the widest step;  registers  vectors of that width that the CPU holds
    scratch    how many of them a step needs besides the accumulators and the weights
    work, latency    of one step on one accumulator, in multiplications: how many it takes, and how many the CPU starts before a second step
                     on the same accumulator may follow
    rows    output pixels that are summed together
    sums    accumulators of `lanes` channels of so many pixels
    run     steps whose pixels are loaded together, where a run has so many;  held  registers that those of one pixel take meanwhile
    wide    registers of one part's weights for `lanes` channels;  paired  of them that one instruction loads
    shares  whether a load of a pixel serves all steps of `run`, or each has its own
    keeps   whether weights stay in registers from tile to tile, where these have room for those of all steps and no loop is among them
    load    what a load costs though it runs beside the arithmetic, in multiplications
    prefetches  whether the untuned kernel may ask for weights ahead
    """

    @property
    def name(self) -> str: ...
    @property
    def depth(self) -> int: ...
    @property
    def parts(self) -> int: ...
    @property
    def data(self) -> str: ...
    @property
    def weight(self) -> str: ...
    @property
    def acc(self) -> str: ...
    @property
    def lanes(self) -> int: ...
    @property
    def registers(self) -> int: ...
    @property
    def scratch(self) -> int: ...
    @property
    def work(self) -> float: ...
    @property
    def latency(self) -> int: ...
    @property
    def rows(self) -> int: ...
    @property
    def sums(self) -> int: ...
    @property
    def run(self) -> int: ...
    @property
    def held(self) -> int: ...
    @property
    def wide(self) -> int: ...
    @property
    def paired(self) -> int: ...
    @property
    def shares(self) -> bool: ...
    @property
    def keeps(self) -> bool: ...
    @property
    def load(self) -> float: ...
    @property
    def prefetches(self) -> bool: ...

    def operands(self, pixels: Sequence[Pixel], offset: Expr, count: int, lanes: int) -> list[list[Expr]]:
        """What `count` steps take of `rows` pixels, from `offset` on: one operand a part."""
        ...

    def begin(self, start: Expr, lanes: int) -> list[Expr]:
        """The accumulators before the first step.   start: what the sums of each pixel start from, `lanes` of them"""
        ...

    def add(self, sums: Sequence[Expr], pixels: Sequence[Expr], weights: Sequence[Expr], lanes: int) -> list[Expr]:
        """The accumulators after a step; pixels and weights hold one operand a part, weights vectors of lanes * depth."""
        ...

    def finish(self, sums: Sequence[Expr], start: Expr, lanes: int) -> list[Expr]:
        """`lanes` sums of each of the pixels."""
        ...

    def epilogue(self, pixels: int, vecs: int, registers: int) -> float:
        """What becomes of a tile's sums, in multiplications.   registers: that the tile takes"""
        ...

    def gathers(self, w: Conv2DWorkload) -> bool:
        """Whether kernels of `w` should copy the taps of each output pixel next to each other first: one run, of fewer steps."""
        ...


class ShortStep(ConvStep, Protocol):
    """A step that sums in int16 first, which not all weights allow."""

    def fits(self, w: Conv2DWorkload) -> bool:
        """Whether those of `w` promise enough (`accumulate16`)."""
        ...


# Where a pixel's run begins in the staged input: a buffer, and an index.
Pixel = tuple[Expr, "Expr | int"]


_EPILOGUE = 8  # of one vector; fitted as the costs of generic/tiles.py


class OneSum:
    """The part of a ConvStep that is the same for all whose accumulators hold one sum a lane: `broadcast` and `apply` are theirs."""

    __slots__ = ()
    depth: int
    parts: int
    lanes: int
    rows = 1
    sums = 1
    wide = 1
    paired = 1
    shares = True
    keeps = False
    load = 0.3
    prefetches = True

    @property
    def run(self) -> int:
        return 1

    @property
    def held(self) -> int:
        return 0

    @property
    def work(self) -> float:
        raise NotImplementedError

    def broadcast(self, data: Expr, index: Expr, lanes: int) -> Expr:
        """The `depth` values at data[index], as the operand for all lanes."""
        raise NotImplementedError

    def apply(self, acc: Expr, pixels: Sequence[Expr], weights: Sequence[Expr], lanes: int) -> Expr:
        """The new accumulator; operands as in `ConvStep.add`."""
        raise NotImplementedError

    def operands(self, pixels: Sequence[Pixel], offset: Expr, count: int, lanes: int) -> list[list[Expr]]:
        ((data, index),) = pixels
        at = index + offset
        each = range(self.parts)
        return [[self.broadcast(data, at + (u * self.parts + p) * self.depth, lanes) for p in each] for u in range(count)]

    def begin(self, start: Expr, _lanes: int) -> list[Expr]:
        return [start]

    def add(self, sums: Sequence[Expr], pixels: Sequence[Expr], weights: Sequence[Expr], lanes: int) -> list[Expr]:
        return [self.apply(sums[0], pixels, weights, lanes)]

    def finish(self, sums: Sequence[Expr], _start: Expr, _lanes: int) -> list[Expr]:
        return list(sums)

    def epilogue(self, pixels: int, vecs: int, registers: int) -> float:
        return pixels * vecs * _EPILOGUE

    def gathers(self, _w: Conv2DWorkload) -> bool:
        return False


def vector(dtype: str, lanes: int) -> str:
    """ "int32", 16 -> "int32x16"; one lane is the scalar type."""
    return dtype if lanes == 1 else f"{dtype}x{lanes}"


def spread(value: Expr, lanes: int) -> Expr:
    """`value` in every lane."""
    return value if lanes == 1 else tirx.Broadcast(value, lanes)


@dataclass(frozen=True, slots=True)
class WidenStep(OneSum):
    """Bytes times int8, both widened to int32 before they are multiplied: exact on everything that LLVM knows."""

    lanes: int = 16
    registers: int = 8
    name: str = "widen"
    depth: int = 1
    parts: int = 1
    data: str = "uint8"
    weight: str = "int8"
    acc: str = "int32"
    scratch: int = 3
    work: float = 2
    latency: int = 4

    def broadcast(self, data: Expr, index: Expr, lanes: int) -> Expr:
        return spread(data[index].astype("int32"), lanes)

    def apply(self, acc: Expr, pixels: Sequence[Expr], weights: Sequence[Expr], lanes: int) -> Expr:
        return wrapping_sum(acc, pixels[0] * weights[0].astype(vector("int32", lanes)))


@dataclass(frozen=True, slots=True)
class FloatStep(OneSum):
    """float32, fused where `fused` says that the CPU has an fma."""

    lanes: int
    registers: int
    fused: bool
    name: str = "float"
    depth: int = 1
    parts: int = 1
    data: str = "float32"
    weight: str = "float32"
    acc: str = "float32"
    scratch: int = 3
    work: float = 1
    latency: int = 10

    def broadcast(self, data: Expr, index: Expr, lanes: int) -> Expr:
        return spread(data[index], lanes)

    def apply(self, acc: Expr, pixels: Sequence[Expr], weights: Sequence[Expr], lanes: int) -> Expr:
        if self.fused:
            return tirx.call_llvm_pure_intrin(vector("float32", lanes), "llvm.fma", pixels[0], weights[0], acc)
        return acc + pixels[0] * weights[0]
