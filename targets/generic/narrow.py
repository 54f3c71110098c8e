"""Narrow: how a kernel turns int32 vectors into bytes, in the form that a CPU has it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from tvm import tirx
from tvm.ir import Expr

from tvm_rsq.targets.generic.steps import vector


class Narrow(Protocol):
    """clip(value, qmin, qmax) as uint8, of neighbouring int32 vectors at a time.

    takes_low_half  whether it also takes int32 whose lower halves, as int16, are the values
    takes_signed    whether it also makes signed bytes, of values that are 128 less
    """

    @property
    def takes_low_half(self) -> bool: ...
    @property
    def takes_signed(self) -> bool: ...

    def groups(self, lanes: int, vecs: int) -> Sequence[tuple[int, int]]:
        """(lanes, vectors) of each group that is narrowed at a time: together the `vecs` x `lanes` neighbouring values, in order."""
        ...

    def apply(self, vectors: Sequence[Expr], lanes: int, qmin: int, qmax: int, *, low_half: bool = False, signed: bool = False) -> Expr:
        """One group, uint8 x (len(vectors) * lanes), or int8 if signed. The vectors are int32 x lanes; 0 <= qmin <= qmax <= 255 anyway."""
        ...


@dataclass(frozen=True, slots=True)
class ClipNarrow:
    """Clipped as int32, then truncated, a vector at a time: LLVM knows the pattern where a CPU has an instruction for it."""

    takes_low_half: bool = False
    takes_signed: bool = False

    def groups(self, lanes: int, vecs: int) -> Sequence[tuple[int, int]]:
        return ((lanes, 1),) * vecs

    def apply(self, vectors: Sequence[Expr], lanes: int, qmin: int, qmax: int, *, low_half: bool = False, signed: bool = False) -> Expr:
        low, high = (tirx.const(q, vector("int32", lanes)) for q in (qmin, qmax))
        return tirx.max(tirx.min(vectors[0], high), low).astype(vector("uint8", lanes))


CLIP: Narrow = ClipNarrow()
