"""Kernels between float32 and quantized values, and between two scales.

The permutation of `make_quantize` makes the NHWC integer image of an NCHW float input in one sweep: the first operator of every network.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from tvm import te
from tvm.ir import Expr

from tvm_rsq.targets import numerics
from tvm_rsq.targets.generic.te_kernel import injective_kernel
from tvm_rsq.targets.kernel import Kernel
from tvm_rsq.targets.workloads_elementwise import DequantizeWorkload, QuantizeWorkload, RequantizeWorkload


def make_quantize(workload: QuantizeWorkload, *, form: numerics.RequantizeForm) -> Kernel:
    """prim_func(x float32 shape, inv_scale float32 (1,), output carrier permuted shape); inv_scale = float32(1 / scale)."""
    x = te.placeholder(workload.shape, "float32", name="x")
    inv_scale = te.placeholder((1,), "float32", name="inv_scale")
    source = _source_index(workload.permutation, len(workload.shape))

    def element(*index: Expr) -> Expr:
        return numerics.quantize(
            x[source(index)], inv_scale[0], workload.zero_point, workload.qmin, workload.qmax, form=form, dtype=workload.dtype
        )

    output = te.compute(permuted(workload.shape, workload.permutation), element, name="output")
    return injective_kernel("quantize", [x, inv_scale], output)


def make_dequantize(workload: DequantizeWorkload) -> Kernel:
    """prim_func(q carrier shape, scale float32 (1,), output float32 permuted shape)."""
    q = te.placeholder(workload.shape, workload.dtype, name="q")
    scale = te.placeholder((1,), "float32", name="scale")
    source = _source_index(workload.permutation, len(workload.shape))
    output = te.compute(
        permuted(workload.shape, workload.permutation),
        lambda *index: numerics.dequantize(q[source(index)], scale[0], workload.zero_point),
        name="output",
    )
    return injective_kernel("dequantize", [q, scale], output)


def make_requantize(workload: RequantizeWorkload, *, form: numerics.RequantizeForm) -> Kernel:
    """prim_func(q carrier shape, affine float32 (2,), output carrier shape); affine from `requantize_affine`."""
    q = te.placeholder(workload.shape, workload.dtype, name="q")
    affine = te.placeholder((2,), "float32", name="affine")
    output = te.compute(
        workload.shape,
        lambda *index: numerics.quantize(
            q[index].astype("float32"), affine[0], affine[1], workload.qmin, workload.qmax, form=form, dtype=workload.dtype
        ),
        name="output",
    )
    return injective_kernel("requantize", [q, affine], output)


def requantize_affine(scale_in: float, zero_point_in: int, scale_out: float, zero_point_out: int) -> np.ndarray:
    """(r0, r1), float32: q_out = q_in * r0 + r1 with r0 = scale_in / scale_out, r1 = zero_point_out - zero_point_in * r0 (in float64)."""
    ratio = float(scale_in) / float(scale_out)
    return np.array([ratio, zero_point_out - zero_point_in * ratio], np.float32)


def permuted(shape: Sequence[int], permutation: Sequence[int] | None) -> tuple[int, ...]:
    """The shape of numpy.transpose(x, permutation); None leaves it."""
    return tuple(shape) if permutation is None else tuple(shape[axis] for axis in permutation)


def _source_index(permutation: tuple[int, ...] | None, rank: int):  # noqa: ANN202  (a closure over index tuples)
    if permutation is None:
        return lambda index: index
    return lambda index: tuple(index[permutation.index(axis)] for axis in range(rank))
