"""A task as MetaSchedule knows it: a plain convolution that names the task, and one annotation for the choice.

    T.func_attr({"rsq.task": '{"arch": "x86_64", ..., "workload": {...}}'})       -> the structural hash is the task's identity
    with T.sblock("conv2d"):
        T.sblock_attr({"rsq.choice": '{"algorithm": "direct", "cols": 6, ...}'})  -> the trace of a tuning record is the choice

Our kernels are templates written with an IR builder, which no schedule primitive makes out of a convolution: so the design space is the
set of values of the annotation, and the library builds what it says.
"""

from __future__ import annotations

import json

from tvm import te, tirx
from tvm.ir import Expr, IRModule
from tvm.s_tir import Schedule
from tvm.s_tir.schedule import Trace

from tvm_rsq.targets.choice import Choice, from_knobs, to_knobs
from tvm_rsq.targets.workload import Conv2DWorkload
from tvm_rsq.tuning.task import TuningTask

_TASK, _CHOICE, _BLOCK = "rsq.task", "rsq.choice", "conv2d"


def specification(task: TuningTask) -> IRModule:
    """The module that stands for `task` in a database."""
    func = te.create_prim_func(_convolution(task.workload))
    return IRModule({"main": func.with_attr({"global_symbol": "main", _TASK: task.identity})})


def annotate(module: IRModule, choice: Choice) -> Schedule:
    """The point of the design space that is `choice`."""
    sch = Schedule(module)
    sch.annotate(sch.get_sblock(_BLOCK), _CHOICE, json.dumps(to_knobs(choice), sort_keys=True))
    return sch


def choice_of(trace: Trace) -> Choice:
    """The choice that `annotate` wrote.   ValueError: this version has no such choice."""
    (text,) = [str(inst.inputs[1]) for inst in trace.insts if inst.kind.name == "Annotate" and str(inst.attrs[0]) == _CHOICE]
    return from_knobs(json.loads(text))


def _convolution(w: Conv2DWorkload) -> list[te.Tensor]:
    depth, per_group = w.in_channels // w.groups, w.out_channels // w.groups
    quantized = w.in_dtype != "float32"
    acc = "int32" if quantized else "float32"
    data = te.placeholder((w.batch, w.height, w.width, w.in_channels), w.in_dtype, name="data")
    weight = te.placeholder((w.out_channels, *w.kernel, depth), "int8" if quantized else "float32", name="weight")
    kh, kw, ic = te.reduce_axis((0, w.kernel[0]), "kh"), te.reduce_axis((0, w.kernel[1]), "kw"), te.reduce_axis((0, depth), "ic")

    def value(n: Expr, oh: Expr, ow: Expr, oc: Expr) -> Expr:
        row = oh * w.stride[0] + kh * w.dilation[0] - w.padding[0]
        col = ow * w.stride[1] + kw * w.dilation[1] - w.padding[1]
        inside = tirx.all(row >= 0, row < w.height, col >= 0, col < w.width)
        pixel = tirx.if_then_else(inside, data[n, row, col, oc // per_group * depth + ic].astype(acc), tirx.const(0, acc))
        return te.sum(pixel * weight[oc, kh, kw, ic].astype(acc), axis=[kh, kw, ic])

    out = te.compute((w.batch, w.out_height, w.out_width, w.out_channels), value, name=_BLOCK)
    return [data, weight, out]
