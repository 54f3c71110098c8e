"""Weights made of codes and of what is known of their slots (see Kernel.spread) when a library is loaded.

    several books  weight = table[offset of the slot + code]          float32  weight = scale of the slot * table[code]

Codes are taken apart a group of vectors at a time; the rest is a plain loop, which LLVM compiles in a tenth of the time that it needs for
vectors of such gathers, to code that is three times as fast (0.6 to 1.3 weights a nanosecond).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from tvm import tirx
from tvm.ir import Expr
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T

from tvm_rsq.targets.code_rows import CodeRows
from tvm_rsq.targets.generic.expand_codes import LANES
from tvm_rsq.targets.generic.staging import flat
from tvm_rsq.targets.kernel import Kernel
from tvm_rsq.targets.workload import ExpandWorkload


@dataclass(frozen=True)
class SlotExpansion:
    """What kernels of any device have in common: their arguments, and the value of a code.

    lanes  bytes of a row in a group
    ValueError: no spread, or one that does not cover the weight.
    """

    w: ExpandWorkload
    lanes: int

    def __post_init__(self) -> None:
        if self.w.spread is None or math.prod(self.w.spread) != self.size:
            raise ValueError(f"{self.w} has values that depend on slots, expected a spread of {self.size} values; take the kernel's")

    @property
    def codes(self) -> CodeRows:
        return CodeRows(self.w.bits)

    @property
    def size(self) -> int:
        return math.prod(self.w.shape)

    @property
    def scaled(self) -> bool:
        return self.w.dtype == "float32"

    @property
    def each(self) -> int:
        """Weights of a group."""
        return self.codes.vectors * self.lanes

    @property
    def groups(self) -> int:
        return -(-self.size // self.each)

    def declare(self) -> tuple[Expr, Expr, Callable[[Expr, Expr], Expr]]:
        """Declare the kernel's arguments: its codes, its weight as a run of memory, and the value (place, code) of a weight."""
        w, scaled = self.w, self.scaled
        assert w.spread is not None, "as __post_init__ saw to"
        a, r, p, d = w.spread
        T.func_attr({"tirx.noalias": True, "tirx.is_scheduled": True, "global_symbol": "main"})
        rows = T.arg("codes", T.buffer((self.groups * self.codes.rows * self.lanes,), "uint8"))
        table = T.arg("table", T.buffer((w.books * 2**w.bits,), "float32" if scaled else "int8"))
        of_slot = T.arg("of_slot", T.buffer((a * p,), "float32" if scaled else "int32"))
        target = flat(T.arg("weight", T.buffer(w.shape, w.dtype)), self.size, w.dtype)

        def value(at: Expr, code: Expr) -> Expr:
            slot = tirx.truncdiv(at, r * p * d) * p + tirx.truncmod(tirx.truncdiv(at, d), p)
            if scaled:
                return of_slot[slot] * table[code.astype("int32")]
            return table[of_slot[slot] + code.astype("int32")].astype(w.dtype)

        return rows, target, value

    def kernel(self, prim_func: tirx.PrimFunc) -> Kernel:
        def pack(given: np.ndarray) -> np.ndarray:
            return self.codes.pack(self.codes.groups(given, self.lanes)).reshape(-1)

        return Kernel(name=f"expand_{'levels' if self.scaled else 'books'}{self.w.bits}", prim_func=prim_func, pack_weight=pack)


def make_expand_slots(w: ExpandWorkload) -> Kernel:
    """prim_func(codes uint8 (groups * rows * 64,), table, of_slot, weight of w.shape and w.dtype)

    several books  table int8 (books * 2^bits,), of_slot int32 (A * P,): where in it each slot's book begins
    float32        table float32 (2^bits,), of_slot float32 (A * P,): the slot's scale

    pack_weight takes the codes, uint8 in the order of the weight's memory, and fills up their last group.
    ValueError: no spread, or one that does not cover the weight.
    """
    e = SlotExpansion(w, LANES)
    codes, size = e.codes, e.size

    with IRBuilder() as builder:
        with T.prim_func(s_tir=True):
            rows, target, value = e.declare()
            with T.parallel(e.groups) as group:
                loaded = [rows.vload([(group * codes.rows + row) * LANES], f"uint8x{LANES}") for row in range(codes.rows)]
                some = T.alloc_buffer((e.each,), "uint8")
                for place, vector in enumerate(codes.unpack([T.bind(row) for row in loaded], LANES)):
                    T.buffer_store(some, vector, [tirx.Ramp(place * LANES, 1, LANES)])
                with T.serial(tirx.min(e.each, size - group * e.each) if size % e.each else e.each) as i:
                    T.buffer_store(target, value(group * e.each + i, some[i]), [group * e.each + i])
    return e.kernel(builder.get())
