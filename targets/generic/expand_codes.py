"""Weights made of their codes once, when a library is loaded: what a layer keeps in its file is codes, what it computes with is not."""

from __future__ import annotations

import math

import numpy as np
from tvm import tirx
from tvm.ir import Expr
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T

from tvm_rsq.targets.code_rows import CodeRows
from tvm_rsq.targets.generic.code_lookup import CodeLookup
from tvm_rsq.targets.generic.staging import flat
from tvm_rsq.targets.generic.steps import vector
from tvm_rsq.targets.kernel import Kernel
from tvm_rsq.targets.workload import ExpandWorkload

LANES = 64


def make_expand(w: ExpandWorkload, lookup: CodeLookup) -> Kernel:
    """prim_func(codes uint8 (groups * rows * 64,), table int8 (entries,), weight of w.shape and w.dtype)

    pack_weight takes the codes, uint8 in the order of the weight's memory, and fills up their last group.
    """
    codes, size = CodeRows(w.bits), math.prod(w.shape)
    groups = -(-size // (codes.vectors * LANES))
    whole, rest = divmod(size, LANES)

    def pack(each: np.ndarray) -> np.ndarray:
        return codes.pack(codes.groups(each, LANES)).reshape(-1)

    with IRBuilder() as builder:
        with T.prim_func(s_tir=True):
            T.func_attr({"tirx.noalias": True, "tirx.is_scheduled": True, "global_symbol": "main"})
            rows = T.arg("codes", T.buffer((groups * codes.rows * LANES,), "uint8"))
            table = T.arg("table", T.buffer((codes.entries,), "int8"))
            target = flat(T.arg("weight", T.buffer(w.shape, w.dtype)), size, w.dtype)

            def weights(group: Expr | int, place: int) -> Expr:
                """The place-th vector of a group."""
                start = group * (codes.rows * LANES)
                loaded = [rows.vload([start + row * LANES], f"uint8x{LANES}") for row in range(codes.rows)]
                found = lookup.apply(table, codes.entries, codes.unpack(loaded, LANES)[place], LANES)
                return found if w.dtype == "int8" else found.astype(vector(w.dtype, LANES))

            full = whole // codes.vectors
            if full:
                with T.parallel(full) as group:
                    for place in range(codes.vectors):
                        at = (group * codes.vectors + place) * LANES
                        T.buffer_store(target, weights(group, place), [tirx.Ramp(at, 1, LANES)])
            for place in range(whole - full * codes.vectors):
                T.buffer_store(target, weights(full, place), [tirx.Ramp((full * codes.vectors + place) * LANES, 1, LANES)])
            if rest:
                last = T.alloc_buffer((LANES,), w.dtype)
                T.buffer_store(last, weights(whole // codes.vectors, whole % codes.vectors), [tirx.Ramp(0, 1, LANES)])
                with T.serial(rest) as i:
                    T.buffer_store(target, last[i], [whole * LANES + i])
    return Kernel(name=f"expand_codes{w.bits}", prim_func=builder.get(), pack_weight=pack)
