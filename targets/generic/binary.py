"""Sum, difference and product of two quantized tensors, with numpy's broadcasting."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from tvm import te, tirx
from tvm.ir import Expr

from tvm_rsq.targets import numerics
from tvm_rsq.targets.carried import level
from tvm_rsq.targets.generic.channel_product import ChannelProduct
from tvm_rsq.targets.generic.flat_kernel import Argument, element_of
from tvm_rsq.targets.generic.kernel_builder import CPU, KernelBuilder
from tvm_rsq.targets.generic.narrow import CLIP, Narrow
from tvm_rsq.targets.generic.te_kernel import clip_float
from tvm_rsq.targets.kernel import Kernel
from tvm_rsq.targets.workloads_elementwise import AddWorkload, MultiplyWorkload


def make_add(
    workload: AddWorkload, *, form: numerics.RequantizeForm, narrow: Narrow = CLIP, build: KernelBuilder = CPU
) -> Kernel:
    """prim_func(left carrier, right carrier, affine float32 (3,), output); affine from `add_affine`, which also makes it a difference."""

    def element(left: Expr, right: Expr, affine: Expr) -> Expr:
        addend = numerics.fma(level(right).astype("float32"), affine[1], affine[2], form=form)
        a = level(left).astype("float32")
        if workload.out == "float32":
            return clip_float(numerics.fma(a, affine[0], addend, form=form), workload.low, workload.high)
        return numerics.clip_rounded(a, affine[0], addend, workload.qmin, workload.qmax, form=form)

    return _binary_kernel("add", workload, Argument("affine", (3,), "float32"), element, narrow, build)


def make_multiply(
    workload: MultiplyWorkload, *, form: numerics.RequantizeForm, narrow: Narrow = CLIP, build: KernelBuilder = CPU
) -> Kernel:
    """prim_func(left carrier, right carrier, multiplier float32 (1,), output)."""
    if build.own_loops and (product := ChannelProduct.of(workload)):
        return product.kernel(form, narrow)

    def element(left: Expr, right: Expr, multiplier: Expr) -> Expr:
        a = level(left).astype("int32") - tirx.const(workload.left_zero_point, "int32")
        b = level(right).astype("int32") - tirx.const(workload.right_zero_point, "int32")
        if workload.out == "float32":
            return clip_float((a * b).astype("float32") * multiplier[0], workload.low, workload.high)
        x = (a * b).astype("float32")
        return numerics.clip_rounded(x, multiplier[0], workload.zero_point, workload.qmin, workload.qmax, form=form)

    return _binary_kernel("multiply", workload, Argument("multiplier", (1,), "float32"), element, narrow, build)


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
    return tuple(tirx.const(0, "int32") if int(extent) == 1 else i for i, extent in zip(trailing, shape, strict=True))


def _binary_kernel(
    name: str, workload: AddWorkload | MultiplyWorkload, parameter: Argument, element: Callable[..., Expr], narrow: Narrow,
    build: KernelBuilder,
) -> Kernel:  # fmt: skip
    """prim_func(left, right, parameter, output), output = element(left, right, parameter) of the broadcast operands: of the output's type,
    or int32 within its range."""
    shapes = {"left": workload.left_shape, "right": workload.right_shape}
    shape = np.broadcast_shapes(*shapes.values())
    operands = [Argument(key, value, workload.dtype) for key, value in shapes.items()]
    if workload.left_shape == workload.right_shape:
        return build.flat(name, operands, [parameter], Argument("output", shape, workload.out), element, narrow=narrow)
    left, right, extra = (te.placeholder(a.shape, a.dtype, name=a.name) for a in (*operands, parameter))
    output = te.compute(
        shape,
        lambda *index: element_of(
            element(left[broadcast_index(index, left.shape)], right[broadcast_index(index, right.shape)], extra), workload.out
        ),
        name="output",
    )
    return build.injective(name, [left, right, extra], output)
