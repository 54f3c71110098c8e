"""Tables of 256 bytes in registers: vpermi2b (AVX512-VBMI), or sixteen pshufb and a tree of blends over the upper four bits (AVX2)."""

from __future__ import annotations

import math

from tvm import tirx
from tvm.ir import Expr
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T

from tvm_rsq.targets.generic.flat_kernel import flat_loop
from tvm_rsq.targets.generic.lookup import make_lookup
from tvm_rsq.targets.generic.staging import flat
from tvm_rsq.targets.kernel import Kernel
from tvm_rsq.targets.workloads_elementwise import LookupWorkload


def lookup_lanes(features: frozenset[str]) -> int:
    """Bytes that are looked up at a time on a CPU with these LLVM features; 0: it has no byte shuffle of 256 bits."""
    return 64 if "avx512vbmi" in features else 32 if "avx2" in features else 0


def make_lookup_shuffle(workload: LookupWorkload, lanes: int) -> Kernel:
    """As `generic.lookup.make_lookup`, which also makes what is not byte to byte, or less than a vector; lanes from `lookup_lanes`."""
    size = math.prod(workload.shape)
    if workload.out == "float32" or size < lanes or lanes == 0:
        return make_lookup(workload)
    with IRBuilder() as builder:
        with T.prim_func(s_tir=True):
            T.func_attr({"tirx.noalias": True, "tirx.is_scheduled": True, "global_symbol": "main"})
            q = T.arg("q", T.buffer(workload.shape, workload.dtype))
            table = T.arg("table", T.buffer((256,), workload.out))
            output = T.arg("output", T.buffer(workload.shape, workload.out))
            source, target = flat(q, size, workload.dtype), flat(output, size, workload.out)

            def emit(start: Expr, width: int) -> None:
                x = tirx.reinterpret(f"int8x{width}", source.vload([start], f"{workload.dtype}x{width}"))
                if workload.dtype == "int8":
                    x = x ^ tirx.const(-128, f"int8x{width}")  # the table counts from the least value
                found = _permuted(x, table) if width == 64 else _blended(x, table)
                T.buffer_store(target, tirx.reinterpret(f"{workload.out}x{width}", found), [tirx.Ramp(start, 1, width)])

            flat_loop(size, lanes, emit)
    return Kernel(name=f"lookup_{'permute' if lanes == 64 else 'shuffle'}", prim_func=builder.get())


def _permuted(x: Expr, table: Expr) -> Expr:
    """table[x], 64 bytes: the lower seven bits choose among 128 entries of two registers, the sign among the halves of the table."""
    quarters = [tirx.reinterpret("int8x64", table.vload([64 * i], f"{table.dtype}x64")) for i in range(4)]
    low, high = (
        tirx.call_llvm_pure_intrin("int8x64", "llvm.x86.avx512.vpermi2var.qi.512", quarters[i], x, quarters[i + 1]) for i in (0, 2)
    )
    return tirx.Select(x < tirx.const(0, "int8x64"), high, low)


def _blended(x: Expr, table: Expr) -> Expr:
    """table[x], 32 bytes."""
    low_bits = x & tirx.const(15, "int8x32")
    signs = [x]  # bit 7, then 6, 5, 4 in the place that a blend looks at
    for _ in range(3):
        signs.append(signs[-1] + signs[-1])

    def among(first: int, count: int) -> Expr:
        """The entry of 16-byte rows first ... first + count - 1."""
        if count == 1:
            row = tirx.reinterpret("int8x16", table.vload([16 * first], f"{table.dtype}x16"))
            twice = tirx.Shuffle([row, row], list(range(32)))
            return tirx.call_llvm_pure_intrin("int8x32", "llvm.x86.avx2.pshuf.b", twice, low_bits)
        half = count // 2
        sign = signs[3 - int(math.log2(half))]
        return tirx.call_llvm_pure_intrin("int8x32", "llvm.x86.avx2.pblendvb", among(first, half), among(first + half, half), sign)

    return among(0, 16)
