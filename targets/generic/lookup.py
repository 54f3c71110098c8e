"""Unary functions of one quantized tensor: any function as a table, and the clamp, which needs none."""

from __future__ import annotations

from tvm import tirx

from tvm_rsq.targets.carried import level
from tvm_rsq.targets.carrier import offset
from tvm_rsq.targets.generic.flat_kernel import Argument
from tvm_rsq.targets.generic.kernel_builder import CPU, KernelBuilder
from tvm_rsq.targets.generic.narrow import CLIP
from tvm_rsq.targets.kernel import Kernel
from tvm_rsq.targets.workloads_elementwise import ClampWorkload, LookupWorkload


def make_lookup(workload: LookupWorkload, *, build: KernelBuilder = CPU) -> Kernel:
    """prim_func(q carrier shape, table (256,) of type `out`, output shape); y = table[q].

    One scalar load an element: generic vector code has no table instruction.
    """
    q, table = Argument("q", workload.shape, workload.dtype), Argument("table", (256,), workload.out)
    output = Argument("output", workload.shape, workload.out)
    return build.flat("lookup", [q], [table], output, lambda q, table: table[level(q).astype("int32")], lanes=1, narrow=CLIP)


def make_clamp(workload: ClampWorkload, *, build: KernelBuilder = CPU) -> Kernel:
    """prim_func(q carrier shape, output carrier shape): a relu or clip whose input and output share their scale."""
    low, high = (tirx.const(q - offset(workload.dtype), workload.dtype) for q in (workload.qmin, workload.qmax))
    q, output = (Argument(name, workload.shape, workload.dtype) for name in ("q", "output"))
    return build.flat("clamp", [q], [], output, lambda q: tirx.max(tirx.min(q, high), low), lanes=64, narrow=CLIP)
