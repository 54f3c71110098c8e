"""Sum, mean and maximum of a quantized tensor over any axes; the mean over the spatial axes is global average pooling."""

from __future__ import annotations

from collections.abc import Sequence

from tvm import te, tirx
from tvm.ir import Expr

from tvm_rsq.targets import numerics
from tvm_rsq.targets.carried import level
from tvm_rsq.targets.generic.kernel_builder import CPU, KernelBuilder
from tvm_rsq.targets.generic.pool import averaged
from tvm_rsq.targets.kernel import Kernel
from tvm_rsq.targets.workloads_elementwise import ReduceWorkload


def make_reduce(workload: ReduceWorkload, *, form: numerics.RequantizeForm, build: KernelBuilder = CPU) -> Kernel:
    """kind "sum" or "mean": prim_func(x carrier, multiplier float32 (1,), output out_shape); kind "max": prim_func(x, output)."""
    x = te.placeholder(workload.shape, workload.dtype, name="x")
    reduced = {axis: te.reduce_axis((0, workload.shape[axis]), name=f"r{axis}") for axis in workload.axes}

    def source(index: Sequence[Expr]) -> Expr:
        kept = iter([i for axis, i in enumerate(index) if axis not in reduced] if workload.keepdims else index)
        return x[tuple(reduced[axis] if axis in reduced else next(kept) for axis in range(len(workload.shape)))]

    over = list(reduced.values())
    if workload.kind == "max":
        output = te.compute(workload.out_shape, lambda *index: te.max(source(index), axis=over), name="output")
        return build.reduction("reduce_max", [x], output, output)

    multiplier = te.placeholder((1,), "float32", name="multiplier")
    zero_point = tirx.const(workload.input_zero_point, "int32")

    def summed(*index: Expr) -> Expr:
        return te.sum(level(source(index)).astype("int32") - zero_point, axis=over)

    total = te.compute(workload.out_shape, summed, name="total")
    ratio = multiplier[0] / tirx.const(float(workload.count), "float32") if workload.kind == "mean" else multiplier[0]
    output = te.compute(workload.out_shape, lambda *index: averaged(total[index], ratio, workload, form), name="output")
    return build.reduction(f"reduce_{workload.kind}", [x, multiplier], total, output)
