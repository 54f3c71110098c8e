"""Weights made of codes and of what is known of their slots (see Kernel.spread) when a library is loaded.

    several books  weight = table[offset of the slot + code]          float32  weight = scale of the slot * table[code]

Codes are taken apart a group of vectors at a time; the rest is a plain loop, which LLVM compiles in a tenth of the time that it needs for
vectors of such gathers, to code that is three times as fast (0.6 to 1.3 weights a nanosecond).
"""

from __future__ import annotations

import math

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


def make_expand_slots(w: ExpandWorkload) -> Kernel:
    """prim_func(codes uint8 (groups * rows * 64,), table, of_slot, weight of w.shape and w.dtype)

    several books  table int8 (books * 2^bits,), of_slot int32 (A * P,): where in it each slot's book begins
    float32        table float32 (2^bits,), of_slot float32 (A * P,): the slot's scale

    pack_weight takes the codes, uint8 in the order of the weight's memory, and fills up their last group.
    ValueError: no spread, or one that does not cover the weight.
    """
    codes, size, scaled = CodeRows(w.bits), math.prod(w.shape), w.dtype == "float32"
    if w.spread is None or math.prod(w.spread) != size:
        raise ValueError(f"{w} has values that depend on slots, expected a spread of {size} values; take the kernel's")
    a, r, p, d = w.spread
    each = codes.vectors * LANES
    groups = -(-size // each)

    def pack(given: np.ndarray) -> np.ndarray:
        return codes.pack(codes.groups(given, LANES)).reshape(-1)

    with IRBuilder() as builder:
        with T.prim_func(s_tir=True):
            T.func_attr({"tirx.noalias": True, "tirx.is_scheduled": True, "global_symbol": "main"})
            rows = T.arg("codes", T.buffer((groups * codes.rows * LANES,), "uint8"))
            table = T.arg("table", T.buffer((w.books * 2**w.bits,), "float32" if scaled else "int8"))
            of_slot = T.arg("of_slot", T.buffer((a * p,), "float32" if scaled else "int32"))
            target = flat(T.arg("weight", T.buffer(w.shape, w.dtype)), size, w.dtype)

            def value(at: Expr, code: Expr) -> Expr:
                slot = tirx.truncdiv(at, r * p * d) * p + tirx.truncmod(tirx.truncdiv(at, d), p)
                if scaled:
                    return of_slot[slot] * table[code.astype("int32")]
                return table[of_slot[slot] + code.astype("int32")].astype(w.dtype)

            with T.parallel(groups) as group:
                loaded = [rows.vload([(group * codes.rows + row) * LANES], f"uint8x{LANES}") for row in range(codes.rows)]
                some = T.alloc_buffer((each,), "uint8")
                for place, vector in enumerate(codes.unpack([T.bind(row) for row in loaded], LANES)):
                    T.buffer_store(some, vector, [tirx.Ramp(place * LANES, 1, LANES)])
                with T.serial(tirx.min(each, size - group * each) if size % each else each) as i:
                    T.buffer_store(target, value(group * each + i, some[i]), [group * each + i])
    return Kernel(name=f"expand_{'levels' if scaled else 'books'}{w.bits}", prim_func=builder.get(), pack_weight=pack)
