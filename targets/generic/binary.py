"""Sum, difference and product of two quantized tensors, with numpy's broadcasting."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from tvm import te, tirx
from tvm.ir import Expr

from tvm_rsq.targets import numerics
from tvm_rsq.targets.generic.te_kernel import clip_float, injective_kernel
from tvm_rsq.targets.kernel import Kernel
from tvm_rsq.targets.workloads_elementwise import AddWorkload, MultiplyWorkload


def make_add(workload: AddWorkload, *, form: numerics.RequantizeForm) -> Kernel:
    """prim_func(left carrier, right carrier, affine float32 (3,), output); affine from `add_affine`, which also makes it a difference."""
    left, right = _operands(workload)
    affine = te.placeholder((3,), "float32", name="affine")

    def element(*index: Expr) -> Expr:
        a = left[broadcast_index(index, workload.left_shape)].astype("float32")
        b = right[broadcast_index(index, workload.right_shape)].astype("float32")
        addend = numerics.fma(b, affine[1], affine[2], form=form)
        if workload.out == "float32":
            return clip_float(numerics.fma(a, affine[0], addend, form=form), workload.low, workload.high)
        return numerics.quantize(a, affine[0], addend, workload.qmin, workload.qmax, form=form, dtype=workload.out)

    output = te.compute(np.broadcast_shapes(workload.left_shape, workload.right_shape), element, name="output")
    return injective_kernel("add", [left, right, affine], output)


def make_multiply(workload: MultiplyWorkload, *, form: numerics.RequantizeForm) -> Kernel:
    """prim_func(left carrier, right carrier, multiplier float32 (1,), output)."""
    left, right = _operands(workload)
    multiplier = te.placeholder((1,), "float32", name="multiplier")

    def element(*index: Expr) -> Expr:
        a = left[broadcast_index(index, workload.left_shape)].astype("int32") - tirx.const(workload.left_zero_point, "int32")
        b = right[broadcast_index(index, workload.right_shape)].astype("int32") - tirx.const(workload.right_zero_point, "int32")
        if workload.out == "float32":
            return clip_float((a * b).astype("float32") * multiplier[0], workload.low, workload.high)
        return numerics.requantize(a * b, multiplier[0], workload.zero_point, workload.qmin, workload.qmax, form=form, dtype=workload.out)

    output = te.compute(np.broadcast_shapes(workload.left_shape, workload.right_shape), element, name="output")
    return injective_kernel("multiply", [left, right, multiplier], output)


def add_affine(
    left_scale: float,
    left_zero_point: int,
    right_scale: float,
    right_zero_point: int,
    out_scale: float = 1.0,
    out_zero_point: int = 0,
    *,
    subtract: bool = False,
) -> np.ndarray:
    """(r0, r1, r2), float32: q_out = left * r0 + right * r1 + r2 before rounding, computed in float64; out_scale 1 gives real values.

    r0 = left_scale / out_scale, r1 = +-right_scale / out_scale, r2 = out_zero_point - left_zero_point * r0 - right_zero_point * r1
    """
    r0 = float(left_scale) / float(out_scale)
    r1 = float(right_scale) / float(out_scale) * (-1.0 if subtract else 1.0)
    return np.array([r0, r1, out_zero_point - left_zero_point * r0 - right_zero_point * r1], np.float32)


def broadcast_index(index: Sequence[Expr], shape: Sequence[int]) -> tuple[Expr, ...]:
    """The index into an operand of `shape` at output position `index`, by numpy's rules."""
    trailing = index[len(index) - len(shape) :]
    return tuple(tirx.const(0, "int32") if extent == 1 else i for i, extent in zip(trailing, shape, strict=True))


def _operands(workload: AddWorkload | MultiplyWorkload) -> tuple[te.Tensor, te.Tensor]:
    left = te.placeholder(workload.left_shape, workload.dtype, name="left")
    return left, te.placeholder(workload.right_shape, workload.dtype, name="right")
