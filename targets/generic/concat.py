"""Concatenation of quantized tensors into one buffer, each copied or brought to the output's scale on the way.

Written as a loop nest, not in TE, where one stage would test for every element which input it comes from:

    for row in parallel(product of the axes before `axis`):
        for each input that is not in its place: its run of `shape[axis] * inner` elements, vectorised
"""

from __future__ import annotations

import math

from tvm import tirx
from tvm.ir import Expr
from tvm.script.ir_builder import IRBuilder
from tvm.tirx.script import builder as T  # noqa: N812

from tvm_rsq.targets import numerics
from tvm_rsq.targets.carried import level, stored
from tvm_rsq.targets.generic.movement import unravel
from tvm_rsq.targets.generic.schedule import PARALLEL_WORK, lanes_of
from tvm_rsq.targets.kernel import Kernel
from tvm_rsq.targets.workloads_movement import ConcatWorkload


def make_concat(workload: ConcatWorkload, *, form: numerics.RequantizeForm) -> Kernel:
    """prim_func(x_0, ..., x_k-1 carrier without those in place, affine float32 (k, 2), output).

    Rows of affine come from `quantize.requantize_affine`; those of copied inputs are not read, but the argument is always there.
    """
    in_place = workload.in_place or (False,) * len(workload.shapes)
    rows = math.prod(workload.shapes[0][: workload.axis])
    runs = [math.prod(shape[workload.axis :]) for shape in workload.shapes]
    with IRBuilder() as builder, T.prim_func(s_tir=True):
        T.func_name("main")
        T.func_attr({"tirx.noalias": True, "tirx.is_scheduled": True, "global_symbol": "main"})
        shapes = {i: shape for i, shape in enumerate(workload.shapes) if not in_place[i]}
        inputs = {i: T.arg(f"x{i}", T.buffer(shape, workload.dtype)) for i, shape in shapes.items()}
        affine = T.arg("affine", T.buffer((len(runs), 2), "float32"))
        output = T.arg("output", T.buffer(workload.out_shape, workload.dtype))
        loop = T.parallel if rows * sum(runs[i] for i in inputs) >= PARALLEL_WORK and rows > 1 else T.serial
        with loop(0, rows) as row:
            for i, source in inputs.items():
                _copy_run(workload, i, source, affine, output, row, sum(runs[:i]), runs[i], form)
    return Kernel(name="concat", prim_func=builder.get())


def _copy_run(
    workload: ConcatWorkload,
    i: int,
    source: tirx.Buffer,
    affine: tirx.Buffer,
    output: tirx.Buffer,
    row: Expr,
    start: int,
    run: int,
    form: numerics.RequantizeForm,
) -> None:
    out_run = math.prod(workload.out_shape[workload.axis :])

    def move(offset: Expr) -> None:
        value = source[unravel(row * run + offset, workload.shapes[i])]
        if workload.requantized[i]:
            value = numerics.quantize(
                level(value).astype("float32"), affine[i, 0], affine[i, 1], workload.qmin, workload.qmax, form=form, dtype="uint8"
            )
            value = stored(value, workload.dtype)
        T.buffer_store(output, value, list(unravel(row * out_run + start + offset, workload.out_shape)))

    lanes = lanes_of(run, 1)
    if not lanes:  # LLVM vectorises the serial loop and its tail
        with T.serial(0, run) as offset:
            move(offset)
        return
    with T.serial(0, run // lanes) as chunk, T.vectorized(0, lanes) as lane:
        move(chunk * lanes + lane)
