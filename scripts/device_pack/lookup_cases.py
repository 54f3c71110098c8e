"""Lookups of a byte's code each, as kernels do that compute with what they find: only checked, on every number of lanes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from tvm import tirx
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T
from tvm.tirx import PrimFunc

from scripts.device_pack.made_case import MadeCase, Values
from tvm_rsq.targets.cuda.code_lookup import LANES, PermuteLookup, share_table

_THREADS, _BLOCKS = 64, 40


def lookup_cases() -> Iterator[MadeCase]:
    for entries in (16, 64):
        for lanes in LANES:
            random = np.random.default_rng(entries + lanes)
            size = _BLOCKS * _THREADS * lanes
            codes = random.integers(0, entries, size).astype(np.uint8)
            table = random.permutation(np.arange(-128, 128))[:entries].astype(np.int8)
            yield MadeCase(
                name=f"look up {entries} lanes {lanes}", kernel="look up", prim_func=lookup_kernel(entries, lanes, _BLOCKS * _THREADS),
                arguments=tuple(Values(each, each.shape) for each in (codes, table, table[codes])), timed=False,
            )  # fmt: skip


def lookup_kernel(entries: int, lanes: int, vectors: int) -> PrimFunc:
    """prim_func(codes uint8, table, output int8), a vector a thread.   vectors: a multiple of 64"""
    with IRBuilder() as builder:
        with T.prim_func(s_tir=True):
            T.func_attr({"tirx.noalias": True, "tirx.is_scheduled": True, "global_symbol": "main"})
            codes = T.arg("codes", T.buffer((vectors * lanes,), "uint8"))
            table = T.arg("table", T.buffer((entries,), "int8"))
            output = T.arg("output", T.buffer((vectors * lanes,), "int8"))
            with T.thread_binding(vectors // _THREADS, thread="blockIdx.x") as block:
                held = table if entries == 16 else share_table(table, entries, _THREADS)
                with T.thread_binding(_THREADS, thread="threadIdx.x") as thread:
                    start = (block * _THREADS + thread) * lanes
                    found = PermuteLookup().apply(held, entries, codes.vload([start], f"uint8x{lanes}"), lanes)
                    T.buffer_store(output, found, [tirx.Ramp(start, 1, lanes)])
    return builder.get()
