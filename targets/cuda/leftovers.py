"""Schedules for what is no kernel of ours: operators of float islands, as TVM's own rules for GPUs make them."""

from __future__ import annotations

from tvm import tirx
from tvm.ir import IRModule
from tvm.s_tir import dlight
from tvm.target import Target

from tvm_rsq.targets.cuda.gpus import PORTABLE

_SCHEDULED = "tirx.is_scheduled"


def schedule_on_threads(prim_func: tirx.PrimFunc) -> tirx.PrimFunc:
    """`prim_func` with its loops bound to blocks and threads; as it is where it has them already."""
    if prim_func.attrs is not None and _SCHEDULED in prim_func.attrs:
        return prim_func
    rules = dlight.gpu.Reduction(), dlight.gpu.GeneralReduction(), dlight.gpu.Fallback()
    with Target({"kind": "cuda", "arch": PORTABLE}):  # the rules look at limits that all GPUs have
        return dlight.ApplyDefaultSchedule(*rules)(IRModule({"main": prim_func}))["main"]
