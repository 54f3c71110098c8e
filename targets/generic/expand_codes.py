"""Weights made of their codes once, when a library is loaded: what a layer keeps in its file is codes, what it computes with is not."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

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
Kind = Literal["codes", "books", "levels"]


def make_expand(w: ExpandWorkload, lookup: CodeLookup) -> Kernel:
    """prim_func(codes uint8 (groups * rows * 64,), table, [of_slot,] weight of w.shape and w.dtype)

    one book       table int8 (entries of CodeRows,)
    several books  table int8 (books * 2^bits,), of_slot int32 (A * P,): where in it each slot's book begins
    float32        table float32 (2^bits,), of_slot float32 (A * P,): the slot's scale

    pack_weight takes the codes, uint8 in the order of the weight's memory, and fills up their last group.
    ValueError: several books or float32 without a spread that covers the weight.
    """
    codes, size, kind = CodeRows(w.bits), math.prod(w.shape), _kind(w)
    groups = -(-size // (codes.vectors * LANES))
    whole, rest = divmod(size, LANES)

    def pack(each: np.ndarray) -> np.ndarray:
        filled = np.pad(each.reshape(-1), (0, groups * codes.vectors * LANES - size))
        return codes.pack(filled.reshape(groups, codes.vectors, LANES)).reshape(-1)

    with IRBuilder() as builder:
        with T.prim_func(s_tir=True):
            T.func_attr({"tirx.noalias": True, "tirx.is_scheduled": True, "global_symbol": "main"})
            rows = T.arg("codes", T.buffer((groups * codes.rows * LANES,), "uint8"))
            value = _values(w, kind, lookup)
            target = flat(T.arg("weight", T.buffer(w.shape, w.dtype)), size, w.dtype)

            def weights(group: Expr | int, place: int) -> Expr:
                """The place-th vector of a group."""
                start = group * (codes.rows * LANES)
                loaded = [rows.vload([start + row * LANES], f"uint8x{LANES}") for row in range(codes.rows)]
                return value(codes.unpack(loaded, LANES)[place], (group * codes.vectors + place) * LANES)

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
    return Kernel(name=f"expand_{kind}{w.bits}", prim_func=builder.get(), pack_weight=pack)


def _kind(w: ExpandWorkload) -> Kind:
    kind: Kind = "levels" if w.dtype == "float32" else "books" if w.books > 1 else "codes"
    if kind != "codes" and (w.spread is None or math.prod(w.spread) != math.prod(w.shape)):
        raise ValueError(f"{w} has values that depend on slots, expected a spread of {math.prod(w.shape)} values; take the kernel's")
    return kind


def _values(w: ExpandWorkload, kind: Kind, lookup: CodeLookup) -> Callable[[Expr, Expr | int], Expr]:
    """Declare table and of_slot; a function of a vector of codes, and of the place of the first of them in the weight."""
    if kind == "codes":
        entries = CodeRows(w.bits).entries
        table = T.arg("table", T.buffer((entries,), "int8"))
        return lambda codes, _at: _cast(lookup.apply(table, entries, codes, LANES), w.dtype)
    a, r, p, d = w.spread  # type: ignore[misc]
    table = T.arg("table", T.buffer((w.books * 2**w.bits,), "float32" if kind == "levels" else "int8"))
    of_slot = T.arg("of_slot", T.buffer((a * p,), "float32" if kind == "levels" else "int32"))

    def value(codes: Expr, at: Expr | int) -> Expr:
        index, wide = tirx.Ramp(at, 1, LANES), codes.astype(f"int32x{LANES}")

        def const(number: int) -> Expr:
            return tirx.const(number, f"int32x{LANES}")

        slot = tirx.truncdiv(index, const(r * p * d)) * const(p) + tirx.truncmod(tirx.truncdiv(index, const(d)), const(p))
        slot = tirx.min(slot, const(a * p - 1))  # the last vector reaches beyond the weight
        if kind == "levels":
            return of_slot[slot] * table[wide]
        return _cast(table[of_slot[slot] + wide], w.dtype)

    return value


def _cast(weights: Expr, dtype: str) -> Expr:
    return weights if dtype == "int8" else weights.astype(vector(dtype, LANES))
