"""From TE tensors to a scheduled Kernel."""

from __future__ import annotations

from collections.abc import Sequence

from tvm import te, tirx
from tvm.ir import Expr, IRModule
from tvm.s_tir import Schedule

from tvm_rsq.targets.generic.schedule import schedule_injective, schedule_reduction
from tvm_rsq.targets.kernel import Kernel


def injective_kernel(name: str, inputs: Sequence[te.Tensor], output: te.Tensor) -> Kernel:
    """The element-wise kernel `prim_func(*inputs, output)`; `output` is computed from the inputs in one stage."""
    sch = Schedule(IRModule({"main": te.create_prim_func([*inputs, output])}))
    schedule_injective(sch, sch.get_sblock(output.op.name))
    return _kernel(name, sch)


def reduction_kernel(name: str, inputs: Sequence[te.Tensor], reduction: te.Tensor, output: te.Tensor) -> Kernel:
    """The kernel `prim_func(*inputs, output)` of one reduction and an element-wise stage behind it (or none: output is reduction)."""
    sch = Schedule(IRModule({"main": te.create_prim_func([*inputs, output])}))
    block = sch.get_sblock(reduction.op.name)
    schedule_reduction(sch, block, None if output.same_as(reduction) else sch.get_sblock(output.op.name))
    return _kernel(name, sch)


def clip_float(x: Expr, low: float, high: float) -> Expr:
    """clip(x, low, high) of a float32; infinite bounds cost nothing."""
    if high != float("inf"):
        x = tirx.min(x, tirx.const(high, "float32"))
    if low != float("-inf"):
        x = tirx.max(x, tirx.const(low, "float32"))
    return x


def _kernel(name: str, sch: Schedule) -> Kernel:
    return Kernel(name=name, prim_func=sch.mod["main"].with_attr("tirx.is_scheduled", True))
