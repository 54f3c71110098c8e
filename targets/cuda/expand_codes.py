"""Weights made of their codes on the GPU once, when a library is loaded: targets/generic/expand_codes.py for CUDA."""

from __future__ import annotations

import math

import numpy as np
from tvm import tirx
from tvm.ir import Expr
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T

from tvm_rsq.targets.code_rows import CodeRows
from tvm_rsq.targets.cuda.code_lookup import PermuteLookup, as_bytes, as_words, nibble_words, share_table
from tvm_rsq.targets.cuda.expand_schedule import SCHEDULES, ExpandSchedule
from tvm_rsq.targets.generic.staging import flat
from tvm_rsq.targets.kernel import Kernel
from tvm_rsq.targets.workload import ExpandWorkload


def make_expand(w: ExpandWorkload, lookup: PermuteLookup, schedule: ExpandSchedule | None = None) -> Kernel:
    """prim_func(codes uint8 (groups * rows * lanes,), table int8 (entries,), weight of w.shape and w.dtype)

    pack_weight takes the codes, uint8 in the order of the weight's memory, and fills up their last group.

    schedule  None: the one that was measured to be the fastest for such codes
    """
    schedule = schedule or SCHEDULES[w.bits]
    codes, size, lanes, width = CodeRows(w.bits), math.prod(w.shape), schedule.lanes, schedule.width
    groups, sharing, stored = -(-size // (codes.vectors * lanes)), lanes // width, schedule.stored(w.dtype)
    pairs, parts, items = codes.vectors // 2, 2 * width // stored, groups * sharing
    rest = size % stored

    def pack(each: np.ndarray) -> np.ndarray:
        return codes.pack(schedule.order(codes.groups(each, lanes), stored)).reshape(-1)

    with IRBuilder() as builder:
        with T.prim_func(s_tir=True):
            T.func_attr({"tirx.noalias": True, "tirx.is_scheduled": True, "global_symbol": "main"})
            rows = T.arg("codes", T.buffer((groups * codes.rows * lanes,), "uint8"))
            table = T.arg("table", T.buffer((codes.entries,), "int8"))
            target = flat(T.arg("weight", T.buffer(w.shape, w.dtype)), size, w.dtype)

            def words_of(item: Expr) -> list[list[Expr]]:
                """For each four bytes that the thread takes: a word of each row."""
                start = tirx.floordiv(item, sharing) * (codes.rows * lanes) + tirx.floormod(item, sharing) * width
                loaded = [T.bind(rows.vload([start + row * lanes], f"uint8x{width}")) for row in range(codes.rows)]
                return [[T.bind(word) for word in of_rows] for of_rows in zip(*(as_words(each, width) for each in loaded), strict=True)]

            def pairs_of(held: Expr | list[Expr], row_words: list[Expr]) -> list[list[Expr]]:
                """Two words of weights for each pair of vectors."""
                if codes.entries == 16:
                    return [lookup.nibbles(held, each) for each in nibble_words(codes, row_words)]
                vectors = codes.unpack_words(row_words)
                return [lookup.bytes_in_turns(held, *vectors[2 * pair : 2 * pair + 2]) for pair in range(pairs)]

            def store(found: list[Expr], at: Expr) -> None:
                value = as_bytes(found)
                T.buffer_store(target, value if w.dtype == "int8" else value.astype(f"{w.dtype}x{stored}"), [tirx.Ramp(at, 1, stored)])

            def store_rest(found: list[Expr]) -> None:
                for i in range(rest):
                    value = (found[i // 4] >> tirx.const(i % 4 * 8, "uint32")).astype("int8")
                    T.buffer_store(target, value.astype(w.dtype), [size - rest + i])

            with T.thread_binding(-(-items // schedule.threads), thread="blockIdx.x") as block:
                shared = share_table(table, codes.entries, schedule.threads) if codes.entries > 16 else None
                with T.thread_binding(schedule.threads, thread="threadIdx.x") as thread:
                    held = lookup.registers(table) if shared is None else shared
                    item = block * schedule.threads + thread
                    with T.If(item < items), T.Then():
                        found = [pairs_of(held, each) for each in words_of(item)]
                        for place in range(pairs * parts):
                            pair, part = divmod(place, parts)
                            made = [each for four in found for each in four[pair]][part * stored // 4 : (part + 1) * stored // 4]
                            run = tirx.floordiv(item, sharing) * (pairs * parts) + place
                            at = run * (sharing * stored) + tirx.floormod(item, sharing) * stored
                            with T.If(at + stored <= size), T.Then():
                                store(made, at)
                            # The one thread whose weights are not all there: which of its stores that is is known.
                            if rest and (size - rest) // (sharing * stored) % (pairs * parts) == place:
                                with T.If(at == size - rest), T.Then():
                                    store_rest(made)
    return Kernel(name=f"expand_codes{w.bits}", prim_func=builder.get(), pack_weight=pack)
