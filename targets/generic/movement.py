"""Kernels that only move elements: permute, pad, strided slice (and so split)."""

from __future__ import annotations

from collections.abc import Sequence

from tvm import te, tirx
from tvm.ir import Expr

from tvm_rsq.targets.carrier import offset
from tvm_rsq.targets.generic.kernel_builder import CPU, KernelBuilder
from tvm_rsq.targets.generic.quantize import permuted
from tvm_rsq.targets.kernel import Kernel
from tvm_rsq.targets.workloads_movement import PadWorkload, PermuteWorkload, StridedSliceWorkload


def make_permute(workload: PermuteWorkload, *, build: KernelBuilder = CPU) -> Kernel:
    """prim_func(x shape, output permuted shape)."""
    x = te.placeholder(workload.shape, workload.dtype, name="x")
    rank = len(workload.shape)

    def element(*index: Expr) -> Expr:
        return x[tuple(index[workload.permutation.index(axis)] for axis in range(rank))]

    output = te.compute(permuted(workload.shape, workload.permutation), element, name="output")
    return build.injective("permute", [x], output)


def make_pad(workload: PadWorkload, *, build: KernelBuilder = CPU) -> Kernel:
    """prim_func(x shape, output out_shape)."""
    x = te.placeholder(workload.shape, workload.dtype, name="x")
    padding = tirx.const(workload.value - offset(workload.dtype), workload.dtype)

    def element(*index: Expr) -> Expr:
        inside = []
        for i, before, size, after in zip(index, workload.before, workload.shape, workload.after, strict=True):
            inside += [i >= before] if before else []
            inside += [i < before + size] if after else []
        value = x[tuple(i - before for i, before in zip(index, workload.before, strict=True))]
        return tirx.if_then_else(tirx.all(*inside), value, padding) if inside else value

    output = te.compute(workload.out_shape, element, name="output")
    return build.injective("pad", [x], output)


def make_strided_slice(workload: StridedSliceWorkload, *, build: KernelBuilder = CPU) -> Kernel:
    """prim_func(x shape, output out_shape); a split is one of these per part."""
    x = te.placeholder(workload.shape, workload.dtype, name="x")
    output = te.compute(
        workload.out_shape,
        lambda *index: x[tuple(b + i * s for b, i, s in zip(workload.begin, index, workload.strides, strict=True))],
        name="output",
    )
    return build.injective("strided_slice", [x], output)


def unravel(offset: Expr, shape: Sequence[int]) -> tuple[Expr, ...]:
    """The index of row-major `offset` in `shape`."""
    index: list[Expr] = []
    for extent in reversed(shape):
        index.append(tirx.floormod(offset, extent))
        offset = tirx.floordiv(offset, extent)
    return tuple(reversed(index))
