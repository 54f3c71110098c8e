"""Concatenation on a GPU: a thread moves one element, of whichever input its place comes from."""

from __future__ import annotations

import math

from tvm import tirx
from tvm.ir import Expr
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T

from tvm_rsq.targets import numerics
from tvm_rsq.targets.carried import level, stored
from tvm_rsq.targets.cuda.lane_epilogue import FORM
from tvm_rsq.targets.generic.staging import flat
from tvm_rsq.targets.kernel import Kernel
from tvm_rsq.targets.workloads_movement import ConcatWorkload

_THREADS = 256  # of a block


def make_concat(w: ConcatWorkload) -> Kernel:
    """prim_func(x_0, ..., x_k-1 carrier without those in place, affine float32 (k, 2), output), see targets/generic/concat.py."""
    in_place = w.in_place or (False,) * len(w.shapes)
    rows = math.prod(w.shapes[0][: w.axis])
    runs = [math.prod(shape[w.axis :]) for shape in w.shapes]
    moved = [i for i in range(len(runs)) if not in_place[i]]
    total = sum(runs[i] for i in moved)
    with IRBuilder() as builder:
        with T.prim_func(s_tir=True):
            T.func_attr({"tirx.noalias": True, "tirx.is_scheduled": True, "global_symbol": "main"})
            inputs = [T.arg(f"x{i}", T.buffer(w.shapes[i], w.dtype)) for i in moved]
            affine = T.arg("affine", T.buffer((len(runs), 2), "float32"))
            output = T.arg("output", T.buffer(w.out_shape, w.dtype))
            sources = [flat(x, math.prod(w.shapes[i]), w.dtype) for i, x in zip(moved, inputs, strict=True)]
            target = flat(output, math.prod(w.out_shape), w.dtype)

            def move(i: int, source: Expr, row: Expr, place: Expr) -> None:
                value = source[row * runs[i] + place]
                if w.requantized[i]:
                    x = level(value).astype("float32")
                    value = stored(numerics.quantize(x, affine[i, 0], affine[i, 1], w.qmin, w.qmax, form=FORM), w.dtype)
                T.buffer_store(target, value, [row * sum(runs) + sum(runs[:i]) + place])

            with (
                T.thread_binding(-(-rows * total // _THREADS), thread="blockIdx.x") as block,
                T.thread_binding(_THREADS, thread="threadIdx.x") as thread,
            ):
                item = T.bind(block * _THREADS + thread)
                with T.If(item < rows * total), T.Then():
                    row = T.bind(tirx.floordiv(item, total))
                    place = T.bind(item - row * total)
                    start = 0
                    for i, source in zip(moved, sources, strict=True):
                        with T.If(tirx.all(place >= start, place < start + runs[i])), T.Then():
                            move(i, source, row, place - start)
                        start += runs[i]
    return Kernel(name="concat", prim_func=builder.get())
