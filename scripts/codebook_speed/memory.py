"""What the memory gives to one core here: a copy, and reading alone, as a kernel that only waited for its weights would."""

from __future__ import annotations

import time

import numpy as np
import tvm
from tvm import tirx
from tvm.ir import IRModule
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T

from tvm_rsq.targets.spec import TargetSpec

_STREAMS, _LANES = 8, 16


class Copy:
    """`size` bytes from here to there."""

    def __init__(self, size: int) -> None:
        self._source, self._target = np.ones(size, np.uint8), np.zeros(size, np.uint8)

    def sample_us(self) -> float:
        begun = time.perf_counter_ns()
        np.copyto(self._target, self._source)
        return (time.perf_counter_ns() - begun) / 1e3


class Read:
    """`size` bytes, summed up as int32 from eight places at once; a multiple of 512."""

    def __init__(self, size: int, spec: TargetSpec) -> None:
        target = spec.tvm_target()
        self._function = tvm.compile(IRModule({"main": _sum_of(size // 4)}), target=target).mod["main"]
        self._source, self._sum = tvm.runtime.tensor(np.ones(size // 4, np.int32)), tvm.runtime.tensor(np.zeros(_LANES, np.int32))

    def sample_us(self) -> float:
        begun = time.perf_counter_ns()
        self._function(self._source, self._sum)
        return (time.perf_counter_ns() - begun) / 1e3


def _sum_of(values: int) -> tirx.PrimFunc:
    kind, each = f"int32x{_LANES}", values // _STREAMS
    everything = tirx.Ramp(0, 1, _LANES)
    with IRBuilder() as builder:
        with T.prim_func(s_tir=True):
            T.func_attr({"tirx.noalias": True, "global_symbol": "main"})
            source, total = T.arg("source", T.buffer((values,), "int32")), T.arg("total", T.buffer((_LANES,), "int32"))
            sums = [T.alloc_buffer((_LANES,), "int32") for _ in range(_STREAMS)]
            for each_sum in sums:
                T.buffer_store(each_sum, tirx.Broadcast(tirx.const(0, "int32"), _LANES), [everything])
            with T.serial(each // _LANES) as i:
                for stream, each_sum in enumerate(sums):
                    read = source.vload([stream * each + i * _LANES], kind)
                    T.buffer_store(each_sum, each_sum.vload([0], kind) + read, [everything])
            for each_sum in sums[1:]:
                T.buffer_store(sums[0], sums[0].vload([0], kind) + each_sum.vload([0], kind), [everything])
            T.buffer_store(total, sums[0].vload([0], kind), [everything])
    return builder.get()
