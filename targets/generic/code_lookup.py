"""Codes to weights: a table of up to 64 bytes, looked up for a vector of codes at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from tvm.ir import Expr

from tvm_rsq.targets.generic.steps import vector


class CodeLookup(Protocol):
    """How a CPU looks codes up."""

    def apply(self, table: Expr, entries: int, codes: Expr, lanes: int) -> Expr:
        """int8 x lanes: table[codes].   table: a buffer of `entries` int8; codes: uint8 x lanes, each below entries"""
        ...

    def is_quick(self, entries: int, lanes: int) -> bool:
        """Whether that takes a few instructions, less time than as many bytes take from memory."""
        ...


@dataclass(frozen=True, slots=True)
class GatherLookup:
    """Byte by byte: right on everything that LLVM knows."""

    def apply(self, table: Expr, entries: int, codes: Expr, lanes: int) -> Expr:
        return table[codes.astype(vector("int32", lanes))]

    def is_quick(self, entries: int, lanes: int) -> bool:
        return False
