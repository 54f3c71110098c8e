"""Unary functions of one quantized tensor: any function as a table, and the clamp, which needs none."""

from __future__ import annotations

from tvm import te, tirx

from tvm_rsq.targets.generic.te_kernel import injective_kernel
from tvm_rsq.targets.kernel import Kernel
from tvm_rsq.targets.workloads_elementwise import ClampWorkload, LookupWorkload


def make_lookup(workload: LookupWorkload) -> Kernel:
    """prim_func(q carrier shape, table (256,) of type `out`, output shape); y = table[q - least value of the carrier].

    One scalar load an element: generic vector code has no table instruction.
    """
    q = te.placeholder(workload.shape, workload.dtype, name="q")
    table = te.placeholder((256,), workload.out, name="table")
    least = tirx.const(-128 if workload.dtype == "int8" else 0, "int32")
    output = te.compute(workload.shape, lambda *index: table[q[index].astype("int32") - least], name="output")
    return injective_kernel("lookup", [q, table], output)


def make_clamp(workload: ClampWorkload) -> Kernel:
    """prim_func(q carrier shape, output carrier shape): a relu or clip whose input and output share their scale."""
    q = te.placeholder(workload.shape, workload.dtype, name="q")
    low, high = tirx.const(workload.qmin, workload.dtype), tirx.const(workload.qmax, workload.dtype)
    output = te.compute(workload.shape, lambda *index: tirx.max(tirx.min(q[index], high), low), name="output")
    return injective_kernel("clamp", [q], output)
