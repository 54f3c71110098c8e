"""Weights made of codes and of what is known of their slots, when a library is loaded: targets/generic/expand_slots.py for CUDA."""

from __future__ import annotations

from tvm import tirx
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T

from tvm_rsq.targets.generic.expand_slots import SlotExpansion
from tvm_rsq.targets.kernel import Kernel
from tvm_rsq.targets.workload import ExpandWorkload

_LANES = 64  # bytes of a row in a group
_THREADS = 256  # of a block


def make_expand_slots(w: ExpandWorkload) -> Kernel:
    """Arguments as of the generic kernel; a thread makes the weights of one byte of each row.   ValueError: as there"""
    e = SlotExpansion(w, _LANES)
    with IRBuilder() as builder:
        with T.prim_func(s_tir=True):
            rows, target, value = e.declare()
            with (
                T.thread_binding(-(-e.groups * _LANES // _THREADS), thread="blockIdx.x") as block,
                T.thread_binding(_THREADS, thread="threadIdx.x") as thread,
            ):
                item = T.bind(block * _THREADS + thread)
                group, lane = T.bind(tirx.floordiv(item, _LANES)), T.bind(tirx.floormod(item, _LANES))
                with T.If(item < e.groups * _LANES), T.Then():
                    loaded = [T.bind(rows[(group * e.codes.rows + row) * _LANES + lane]) for row in range(e.codes.rows)]
                    for place, code in enumerate(e.codes.unpack(loaded, 1)):
                        at = T.bind(group * e.each + place * _LANES + lane)
                        with T.If(at < e.size), T.Then():
                            T.buffer_store(target, value(at, code), [at])
    return e.kernel(builder.get())
