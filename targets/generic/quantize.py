"""Kernels between float32 and quantized values, and between two scales.

The permutation of `make_quantize` makes the NHWC integer image of an NCHW float input in one sweep: the first operator of every network.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from tvm import te
from tvm.ir import Expr

from tvm_rsq.targets import numerics
from tvm_rsq.targets.carried import level
from tvm_rsq.targets.generic.flat_kernel import Argument, element_of
from tvm_rsq.targets.generic.kernel_builder import CPU, KernelBuilder
from tvm_rsq.targets.generic.narrow import CLIP, Narrow
from tvm_rsq.targets.kernel import Kernel
from tvm_rsq.targets.workloads_elementwise import DequantizeWorkload, QuantizeWorkload, RequantizeWorkload


def make_quantize(
    workload: QuantizeWorkload, *, form: numerics.RequantizeForm, narrow: Narrow = CLIP, build: KernelBuilder = CPU
) -> Kernel:
    """prim_func(x float32 shape, inv_scale float32 (1,), output carrier permuted shape); inv_scale = float32(1 / scale)."""

    def element(x: Expr, inv_scale: Expr) -> Expr:
        return numerics.clip_rounded(x, inv_scale[0], workload.zero_point, workload.qmin, workload.qmax, form=form)

    x, inv_scale = Argument("x", workload.shape, "float32"), Argument("inv_scale", (1,), "float32")
    return _permuted_kernel("quantize", x, inv_scale, workload.permutation, workload.dtype, element, narrow, build)


def make_dequantize(workload: DequantizeWorkload, *, build: KernelBuilder = CPU) -> Kernel:
    """prim_func(q carrier shape, scale float32 (1,), output float32 permuted shape)."""

    def element(q: Expr, scale: Expr) -> Expr:
        return numerics.dequantize(level(q), scale[0], workload.zero_point)

    q, scale = Argument("q", workload.shape, workload.dtype), Argument("scale", (1,), "float32")
    return _permuted_kernel("dequantize", q, scale, workload.permutation, "float32", element, CLIP, build)


def make_requantize(
    workload: RequantizeWorkload, *, form: numerics.RequantizeForm, narrow: Narrow = CLIP, build: KernelBuilder = CPU
) -> Kernel:
    """prim_func(q carrier shape, affine float32 (2,), output carrier shape); affine from `requantize_affine`."""

    def element(q: Expr, affine: Expr) -> Expr:
        return numerics.clip_rounded(level(q).astype("float32"), affine[0], affine[1], workload.qmin, workload.qmax, form=form)

    q, affine = Argument("q", workload.shape, workload.dtype), Argument("affine", (2,), "float32")
    return _permuted_kernel("requantize", q, affine, None, workload.dtype, element, narrow, build)


def requantize_affine(scale_in: float, zero_point_in: int, scale_out: float, zero_point_out: int) -> np.ndarray:
    """(r0, r1), float32: q_out = q_in * r0 + r1 with r0 = scale_in / scale_out, r1 = zero_point_out - zero_point_in * r0 (in float64)."""
    ratio = float(scale_in) / float(scale_out)
    return np.array([ratio, zero_point_out - zero_point_in * ratio], np.float32)


def permuted(shape: Sequence[int], permutation: Sequence[int] | None) -> tuple[int, ...]:
    """The shape of numpy.transpose(x, permutation); None leaves it."""
    return tuple(shape) if permutation is None else tuple(shape[axis] for axis in permutation)


def _permuted_kernel(
    name: str,
    x: Argument,
    parameter: Argument,
    permutation: tuple[int, ...] | None,
    dtype: str,
    element: Callable[[Expr, Expr], Expr],
    narrow: Narrow,
    build: KernelBuilder,
) -> Kernel:
    """prim_func(x, parameter, output), output[i] = element(numpy.transpose(x, permutation)[i], parameter), of `dtype` or int32 in its
    range."""
    shape = permuted(x.shape, permutation)
    if permutation is None or permutation == tuple(range(len(shape))):
        return build.flat(name, [x], [parameter], Argument("output", shape, dtype), element, narrow=narrow)
    source, extra = (te.placeholder(a.shape, a.dtype, name=a.name) for a in (x, parameter))
    order = [permutation.index(axis) for axis in range(len(shape))]

    def value(*index: Expr) -> Expr:
        return element_of(element(source[tuple(index[axis] for axis in order)], extra), dtype)

    output = te.compute(shape, value, name="output")
    return build.injective(name, [source, extra], output)
