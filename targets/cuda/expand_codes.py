"""Weights made of their codes on the GPU once, when a library is loaded: targets/generic/expand_codes.py for CUDA.

A group of codes is 64 lanes wide, as on a CPU. A thread takes four bytes of each of its rows and makes eight neighbouring weights of every
two vectors: a warp's loads and stores are runs of 64 bytes or more.
"""

from __future__ import annotations

import math

import numpy as np
from tvm import tirx
from tvm.ir import Expr
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T

from tvm_rsq.targets.code_rows import CodeRows
from tvm_rsq.targets.cuda.code_lookup import PermuteLookup, as_bytes, in_turns, nibble_words, share_table
from tvm_rsq.targets.generic.expand_codes import LANES
from tvm_rsq.targets.generic.staging import flat
from tvm_rsq.targets.kernel import Kernel
from tvm_rsq.targets.workload import ExpandWorkload

THREADS = 256  # of a block
_ROUNDS = 4  # that a block makes with one table at most: of 4-bit codes a thread then loads as many words as of the table
_WORDS = LANES // 4  # of a row in a group
_STORED = 8  # weights: four lanes of two vectors


def make_expand(w: ExpandWorkload, lookup: PermuteLookup) -> Kernel:
    """prim_func(codes uint8 (groups * rows * 64,), table int8 (entries,), weight of w.shape and w.dtype)

    pack_weight takes the codes, uint8 in the order of the weight's memory, and fills up their last group.
    """
    codes, size = CodeRows(w.bits), math.prod(w.shape)
    groups = -(-size // (codes.vectors * LANES))
    pairs, items = codes.vectors // 2, groups * _WORDS
    rounds, rest = min(_ROUNDS, -(-items // THREADS)), size % _STORED

    def pack(each: np.ndarray) -> np.ndarray:
        return codes.pack(in_turns(codes.groups(each, LANES))).reshape(-1)

    with IRBuilder() as builder:
        with T.prim_func(s_tir=True):
            T.func_attr({"tirx.noalias": True, "tirx.is_scheduled": True, "global_symbol": "main"})
            rows = T.arg("codes", T.buffer((groups * codes.rows * LANES,), "uint8"))
            table = T.arg("table", T.buffer((codes.entries,), "int8"))
            target = flat(T.arg("weight", T.buffer(w.shape, w.dtype)), size, w.dtype)

            def weights(held: Expr | list[Expr], item: Expr) -> list[list[Expr]]:
                """Two words of weights for each pair of vectors."""
                start = tirx.floordiv(item, _WORDS) * (codes.rows * LANES) + tirx.floormod(item, _WORDS) * 4
                each = (rows.vload([start + row * LANES], "uint8x4") for row in range(codes.rows))
                loaded = [T.bind(tirx.reinterpret("uint32", four)) for four in each]
                if codes.entries == 16:
                    return [lookup.nibbles(held, word) for word in nibble_words(codes, loaded)]
                words = codes.unpack_words(loaded)
                return [lookup.bytes_in_turns(held, *words[2 * pair : 2 * pair + 2]) for pair in range(pairs)]

            def store(found: list[Expr], at: Expr) -> None:
                value = as_bytes(found)
                T.buffer_store(target, value if w.dtype == "int8" else value.astype(f"{w.dtype}x{_STORED}"), [tirx.Ramp(at, 1, _STORED)])

            def store_rest(found: list[Expr]) -> None:
                for i in range(rest):
                    value = (found[i // 4] >> tirx.const(i % 4 * 8, "uint32")).astype("int8")
                    T.buffer_store(target, value.astype(w.dtype), [size - rest + i])

            with T.thread_binding(-(-items // (rounds * THREADS)), thread="blockIdx.x") as block:
                shared = share_table(table, codes.entries, THREADS) if codes.entries > 16 else None
                with T.thread_binding(THREADS, thread="threadIdx.x") as thread:
                    held = lookup.registers(table) if shared is None else shared
                    with T.serial(rounds) as turn:
                        item = (block * rounds + turn) * THREADS + thread
                        with T.If(item < items), T.Then():
                            run = tirx.floordiv(item, _WORDS) * pairs
                            for pair, found in enumerate(weights(held, item)):
                                at = (run + pair) * (2 * LANES) + tirx.floormod(item, _WORDS) * _STORED
                                with T.If(at + _STORED <= size), T.Then():
                                    store(found, at)
                                # The one thread whose eight weights are not all there: which of its pairs it is in is known.
                                if rest and (size - rest) // (2 * LANES) % pairs == pair:
                                    with T.If(at == size - rest), T.Then():
                                        store_rest(found)
    return Kernel(name=f"expand_codes{w.bits}", prim_func=builder.get(), pack_weight=pack)
