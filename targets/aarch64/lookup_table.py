"""Tables of 256 bytes in sixteen registers: tbl looks up the first 64 entries, tbx those of the parts behind where they are meant."""

from __future__ import annotations

import math

from tvm import tirx
from tvm.ir import Expr
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T

from tvm_rsq.targets.carried import level
from tvm_rsq.targets.generic.flat_kernel import flat_loop
from tvm_rsq.targets.generic.lookup import make_lookup
from tvm_rsq.targets.generic.staging import flat
from tvm_rsq.targets.kernel import Kernel
from tvm_rsq.targets.workloads_elementwise import LookupWorkload

_LANES, _PART = 16, 64


def make_lookup_table(workload: LookupWorkload) -> Kernel:
    """As `generic.lookup.make_lookup`, which also makes what is not byte to byte, or less than a vector."""
    size = math.prod(workload.shape)
    if workload.out == "float32" or size < _LANES:
        return make_lookup(workload)
    with IRBuilder() as builder:
        with T.prim_func(s_tir=True):
            T.func_attr({"tirx.noalias": True, "tirx.is_scheduled": True, "global_symbol": "main"})
            q = T.arg("q", T.buffer(workload.shape, workload.dtype))
            table = T.arg("table", T.buffer((256,), workload.out))
            output = T.arg("output", T.buffer(workload.shape, workload.out))
            source, target = flat(q, size, workload.dtype), flat(output, size, workload.out)

            def emit(start: Expr, width: int) -> None:
                found = _looked_up(table, level(source.vload([start], f"{workload.dtype}x{width}")))
                T.buffer_store(target, tirx.reinterpret(f"{workload.out}x{width}", found), [tirx.Ramp(start, 1, width)])

            flat_loop(size, _LANES, emit)
    return Kernel(name="lookup_tbl", prim_func=builder.get())


def _looked_up(table: Expr, index: Expr) -> Expr:
    """uint8x16: table[index]."""
    found = None
    for first in range(0, 256, _PART):
        registers = [tirx.reinterpret("uint8x16", table.vload([at], f"{table.dtype}x16")) for at in range(first, first + _PART, _LANES)]
        inside = index - tirx.const(first, "uint8x16") if first else index
        if found is None:
            found = tirx.call_llvm_pure_intrin("uint8x16", "llvm.aarch64.neon.tbl4.v16i8", *registers, inside)
        else:
            found = tirx.call_llvm_pure_intrin("uint8x16", "llvm.aarch64.neon.tbx4.v16i8", found, *registers, inside)
    return found
