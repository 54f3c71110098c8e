"""Weights made of codes and of what is known of their slots, when a library is loaded: targets/generic/expand_slots.py for CUDA."""

from __future__ import annotations

import math

import numpy as np
from tvm import tirx
from tvm.ir import Expr
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T

from tvm_rsq.targets.code_rows import CodeRows
from tvm_rsq.targets.generic.staging import flat
from tvm_rsq.targets.kernel import Kernel
from tvm_rsq.targets.workload import ExpandWorkload

_LANES = 64  # bytes of a row in a group
_THREADS = 256  # of a block


def make_expand_slots(w: ExpandWorkload) -> Kernel:
    """Arguments as of the generic kernel; a thread makes the weights of one byte of each row.   ValueError: as there"""
    codes, size, scaled = CodeRows(w.bits), math.prod(w.shape), w.dtype == "float32"
    if w.spread is None or math.prod(w.spread) != size:
        raise ValueError(f"{w} has values that depend on slots, expected a spread of {size} values; take the kernel's")
    a, r, p, d = w.spread
    each = codes.vectors * _LANES
    groups = -(-size // each)

    def pack(given: np.ndarray) -> np.ndarray:
        return codes.pack(codes.groups(given, _LANES)).reshape(-1)

    with IRBuilder() as builder:
        with T.prim_func(s_tir=True):
            T.func_attr({"tirx.noalias": True, "tirx.is_scheduled": True, "global_symbol": "main"})
            rows = T.arg("codes", T.buffer((groups * codes.rows * _LANES,), "uint8"))
            table = T.arg("table", T.buffer((w.books * 2**w.bits,), "float32" if scaled else "int8"))
            of_slot = T.arg("of_slot", T.buffer((a * p,), "float32" if scaled else "int32"))
            target = flat(T.arg("weight", T.buffer(w.shape, w.dtype)), size, w.dtype)

            def value(at: Expr, code: Expr) -> Expr:
                slot = tirx.truncdiv(at, r * p * d) * p + tirx.truncmod(tirx.truncdiv(at, d), p)
                if scaled:
                    return of_slot[slot] * table[code.astype("int32")]
                return table[of_slot[slot] + code.astype("int32")].astype(w.dtype)

            with (
                T.thread_binding(-(-groups * _LANES // _THREADS), thread="blockIdx.x") as block,
                T.thread_binding(_THREADS, thread="threadIdx.x") as thread,
            ):
                item = T.bind(block * _THREADS + thread)
                group, lane = T.bind(tirx.floordiv(item, _LANES)), T.bind(tirx.floormod(item, _LANES))
                with T.If(item < groups * _LANES), T.Then():
                    loaded = [T.bind(rows[(group * codes.rows + row) * _LANES + lane]) for row in range(codes.rows)]
                    for place, code in enumerate(codes.unpack(loaded, 1)):
                        at = T.bind(group * each + place * _LANES + lane)
                        with T.If(at < size), T.Then():
                            T.buffer_store(target, value(at, code), [at])
    return Kernel(name=f"expand_{'levels' if scaled else 'books'}{w.bits}", prim_func=builder.get(), pack_weight=pack)
