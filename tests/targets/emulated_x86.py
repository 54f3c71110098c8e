"""Run kernels of CPUs that this machine is not: instructions of AVX-512, VNNI and aarch64 replaced by vector arithmetic that does the same.

LLVM cuts vectors of any width into what the CPU has, so only instructions that are asked for by name stand in the way. What each does is
written down here from its description in the Intel 64 and IA-32 manual, volume 2 (emulated_aarch64.py has the others), and knows nothing
of the kernels.
"""

from __future__ import annotations

from collections.abc import Callable

import emulated_aarch64
import pytest
import tvm
from replaced_intrinsics import replaced_intrinsics
from tvm import tirx
from tvm.ir import Expr
from tvm.tirx import PrimFunc

from tvm_rsq.targets.parse import parse_target
from tvm_rsq.targets.spec import TargetSpec, host_supports

_FAMILIES = ("llvm.x86.avx512.", "llvm.aarch64.")


def spec_that_runs_here(target: str) -> TargetSpec:
    """The target's; skips the test where this machine can neither run nor emulate it, for which it has to have AVX2 with FMA."""
    spec = parse_target(target)
    if (missing := host_supports(spec)) and host_supports(parse_target("haswell")):
        pytest.skip(f"this machine cannot run {target}: it lacks {', '.join(missing)}")
    return spec


def compile_here(prim_func: PrimFunc, spec: TargetSpec) -> Callable[..., None]:
    """The function, compiled for `spec` if this machine can run that, else for Haswell without the instructions that it lacks."""
    if host_supports(spec):
        prim_func, spec = emulated(prim_func), parse_target("haswell")
    return tvm.compile(tvm.IRModule({"main": prim_func}), target=spec.tvm_target()).mod["main"]


def emulated(prim_func: PrimFunc) -> PrimFunc:
    """`prim_func` without instructions of AVX-512, VNNI and aarch64.   KeyError: one that is not known here."""
    return replaced_intrinsics(prim_func, _MEANING | emulated_aarch64.MEANING, _FAMILIES)


def _lanes(value: Expr) -> int:
    return value.ty.dtype.lanes


def _every(value: Expr, step: int, first: int) -> Expr:
    return tirx.Shuffle([value], list(range(first, _lanes(value), step)))


def _bytes(value: Expr, kind: str) -> Expr:
    return tirx.reinterpret(f"{kind}x{_lanes(value)}", value)


def _wide(value: Expr, dtype: str) -> Expr:
    return value.astype(f"{dtype}x{_lanes(value)}")


def _sum_of_products(a: Expr, b: Expr, size: int) -> Expr:
    """int32: products of adjacent values, `size` of them summed."""
    product = _wide(a, "int32") * _wide(b, "int32")
    parts = [_every(product, size, first) for first in range(size)]
    return sum(parts[1:], parts[0])


def _saturated(value: Expr, dtype: str) -> Expr:
    least_and_greatest = {"int16": (-(2**15), 2**15 - 1), "uint8": (0, 255)}[dtype]
    bounds = [tirx.const(bound, str(value.ty.dtype)) for bound in least_and_greatest]
    return tirx.max(tirx.min(value, bounds[1]), bounds[0]).astype(f"{dtype}x{_lanes(value)}")


def _pack(a: Expr, b: Expr, dtype: str) -> Expr:
    """Both narrowed, 128 bits of a and 128 bits of b in turns."""
    lanes = _lanes(a)
    block = lanes // 4  # 512 bits hold four blocks of 128
    order = [half * lanes + base + i for base in range(0, lanes, block) for half in (0, 1) for i in range(block)]
    return tirx.Shuffle([_saturated(a, dtype), _saturated(b, dtype)], order)


def _permute2(a: Expr, index: Expr, b: Expr) -> Expr:
    """Bytes of (a, b) chosen by the lower seven bits of every index."""
    lanes, found = _lanes(a), None
    both = [tirx.Shuffle([value], [i]) for value in (a, b) for i in range(lanes)]
    chosen = index & tirx.const(2 * lanes - 1, f"int8x{lanes}")
    for i, entry in enumerate(both):
        value = tirx.Broadcast(entry, lanes)
        found = value if found is None else tirx.Select(tirx.EQ(chosen, tirx.const(i, f"int8x{lanes}")), value, found)
    return found


def _shuffle(table: Expr, index: Expr) -> Expr:
    """pshufb, for indices below 128: byte index & 15 of the same 128 bits."""
    lanes, found = _lanes(table), tirx.const(0, str(table.ty.dtype))
    for i in range(16):
        block = tirx.Shuffle([table], [at // 16 * 16 + i for at in range(lanes)])
        found = tirx.Select(tirx.EQ(index & tirx.const(15, f"int8x{lanes}"), tirx.const(i, f"int8x{lanes}")), block, found)
    return found


def _permute(table: Expr, index: Expr) -> Expr:
    """Bytes of table chosen by the lower six bits of every index."""
    return _permute2(table, index & tirx.const(63, f"int8x{_lanes(table)}"), table)


_MEANING: dict[str, Callable[..., Expr]] = {
    "llvm.x86.avx512.vpdpbusd": lambda acc, a, b: acc + _sum_of_products(_bytes(a, "uint8"), b, 4),
    "llvm.x86.avx512.vpdpwssd": lambda acc, a, b: acc + _sum_of_products(a, b, 2),
    "llvm.x86.avx512.pmaddw.d": lambda a, b: _sum_of_products(a, b, 2),
    "llvm.x86.avx512.pmaddubs.w": lambda a, b: _saturated(_sum_of_products(_bytes(a, "uint8"), b, 2), "int16"),
    "llvm.x86.avx512.packssdw": lambda a, b: _pack(a, b, "int16"),
    "llvm.x86.avx512.packuswb": lambda a, b: _pack(a, b, "uint8"),
    "llvm.x86.avx512.vpermi2var.qi": _permute2,
    "llvm.x86.avx512.permvar.qi": _permute,
    "llvm.x86.avx512.pshuf.b": _shuffle,
}
