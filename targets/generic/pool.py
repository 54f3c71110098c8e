"""Maximum and average pooling of quantized NHWC images."""

from __future__ import annotations

import math
from functools import reduce

from tvm import te, tirx
from tvm.ir import Expr
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T

from tvm_rsq.targets import numerics
from tvm_rsq.targets.carried import level, stored
from tvm_rsq.targets.generic.kernel_builder import CPU, KernelBuilder
from tvm_rsq.targets.generic.schedule import PARALLEL_WORK
from tvm_rsq.targets.generic.staging import flat
from tvm_rsq.targets.generic.steps import vector
from tvm_rsq.targets.generic.te_kernel import clip_float
from tvm_rsq.targets.generic.tiles import lanes_for, vectors
from tvm_rsq.targets.kernel import Kernel
from tvm_rsq.targets.workloads_elementwise import AvgPoolWorkload, MaxPoolWorkload, ReduceWorkload

# Channels of a vector: the widest register that there is; narrower ones take several.
_MAX_LANES = 64
# Taps up to this many are unrolled; larger windows loop, to keep the code small.
_UNROLLED_TAPS = 49


def make_max_pool2d(workload: MaxPoolWorkload, *, build: KernelBuilder = CPU) -> Kernel:
    """prim_func(x NHWC carrier, output (N, OH, OW, C) carrier)."""
    clampable = all(_clampable(workload, axis) for axis in (0, 1))
    if build.own_loops and clampable and math.prod(workload.kernel) <= _UNROLLED_TAPS:
        return _clamped_max_pool2d(workload)
    x = te.placeholder(workload.shape, workload.dtype, name="x")
    kh, kw = te.reduce_axis((0, workload.kernel[0]), name="kh"), te.reduce_axis((0, workload.kernel[1]), name="kw")

    def tap(n: Expr, h: Expr, w: Expr, c: Expr) -> Expr:
        row, column = _tap_position(workload, 0, h, kh), _tap_position(workload, 1, w, kw)
        if clampable:
            return x[n, _clamped(workload, 0, row), _clamped(workload, 1, column), c]
        inside = _inside(workload, row, column)
        return x[n, row, column, c] if inside is None else tirx.if_then_else(inside, x[n, row, column, c], te.min_value(workload.dtype))

    output = te.compute(workload.out_shape, lambda *index: te.max(tap(*index), axis=[kh, kw]), name="output")
    return build.reduction("max_pool2d", [x], output, output)


def _clamped_max_pool2d(w: MaxPoolWorkload) -> Kernel:
    """Vectors of channels, the last of which overlaps its neighbour; rows in parallel."""
    (_, height, width, channels), (out_height, out_width) = w.shape, w.out_size
    lanes = lanes_for(channels, _MAX_LANES)
    blocks = vectors(channels, lanes)
    work = math.prod(w.out_shape) * math.prod(w.kernel)
    with IRBuilder() as builder:
        with T.prim_func(s_tir=True):
            T.func_attr({"tirx.noalias": True, "tirx.is_scheduled": True, "global_symbol": "main"})
            x, output = T.arg("x", T.buffer(w.shape, w.dtype)), T.arg("output", T.buffer(w.out_shape, w.dtype))
            source, target = flat(x, math.prod(w.shape), w.dtype), flat(output, math.prod(w.out_shape), w.dtype)
            with (T.parallel if work >= PARALLEL_WORK else T.serial)(w.shape[0] * out_height) as line:
                image, row = tirx.floordiv(line, out_height), tirx.floormod(line, out_height)
                rows = [_clamped(w, 0, _tap_position(w, 0, row, k)) for k in range(w.kernel[0])]
                lines = [T.bind((image * height + r) * (width * channels)) for r in rows]
                with T.serial(out_width) as col:
                    columns = [T.bind(_clamped(w, 1, _tap_position(w, 1, col, k)) * channels) for k in range(w.kernel[1])]
                    with T.serial(blocks) as block:
                        first = tirx.min(block * lanes, channels - lanes) if channels % lanes else block * lanes
                        taps = [source.vload([r + c + first], vector(w.dtype, lanes)) for r in lines for c in columns]
                        at = (line * out_width + col) * channels + first
                        T.buffer_store(target, reduce(tirx.max, taps), [tirx.Ramp(at, 1, lanes) if lanes > 1 else at])
    return Kernel(name="max_pool2d", prim_func=builder.get())


def make_avg_pool2d(workload: AvgPoolWorkload, *, form: numerics.RequantizeForm, build: KernelBuilder = CPU) -> Kernel:
    """prim_func(x NHWC carrier, multiplier float32 (1,), output (N, OH, OW, C)); the formula is AvgPoolWorkload's."""
    x = te.placeholder(workload.shape, workload.dtype, name="x")
    multiplier = te.placeholder((1,), "float32", name="multiplier")
    kh, kw = te.reduce_axis((0, workload.kernel[0]), name="kh"), te.reduce_axis((0, workload.kernel[1]), name="kw")

    def tap(n: Expr, h: Expr, w: Expr, c: Expr) -> Expr:
        row, column = _tap_position(workload, 0, h, kh), _tap_position(workload, 1, w, kw)
        value = level(x[n, row, column, c]).astype("int32") - tirx.const(workload.input_zero_point, "int32")
        inside = _inside(workload, row, column)
        return value if inside is None else tirx.if_then_else(inside, value, tirx.const(0, "int32"))

    total = te.compute(workload.out_shape, lambda *index: te.sum(tap(*index), axis=[kh, kw]), name="total")

    def element(n: Expr, h: Expr, w: Expr, c: Expr) -> Expr:
        count = tirx.max(_count(workload, 0, h) * _count(workload, 1, w), tirx.const(1, "int32"))
        return averaged(total[n, h, w, c], multiplier[0] / count.astype("float32"), workload, form)

    output = te.compute(workload.out_shape, element, name="output")
    return build.reduction("avg_pool2d", [x, multiplier], total, output)


def averaged(acc: Expr, ratio: Expr, workload: AvgPoolWorkload | ReduceWorkload, form: numerics.RequantizeForm) -> Expr:
    """The int32 sum `acc` as the workload's output type: acc * ratio, requantized or in float."""
    if workload.out == "float32":
        return clip_float(acc.astype("float32") * ratio, workload.low, workload.high)
    q = numerics.requantize(acc, ratio, workload.zero_point, workload.qmin, workload.qmax, form=form)
    return stored(q, workload.out)


def _tap_position(workload: MaxPoolWorkload | AvgPoolWorkload, axis: int, out: Expr, tap: Expr) -> Expr:
    return out * workload.stride[axis] + tap * workload.dilation[axis] - workload.padding[axis]


def _reaches(workload: MaxPoolWorkload | AvgPoolWorkload, axis: int) -> tuple[int, int]:
    """The least and the greatest input position that any tap touches."""
    least = -workload.padding[axis]
    span = (workload.kernel[axis] - 1) * workload.dilation[axis]
    return least, (workload.out_size[axis] - 1) * workload.stride[axis] + least + span


def _inside(workload: MaxPoolWorkload | AvgPoolWorkload, row: Expr, column: Expr) -> Expr | None:
    """Whether the tap is a valid element; None if every tap is."""
    checks = []
    for axis, position in enumerate((row, column)):
        least, greatest = _reaches(workload, axis)
        checks += [position >= 0] if least < 0 else []
        checks += [position < workload.shape[1 + axis]] if greatest >= workload.shape[1 + axis] else []
    return tirx.all(*checks) if checks else None


def _clampable(workload: MaxPoolWorkload, axis: int) -> bool:
    """Whether a tap outside may read the nearest valid element instead, because that element is in the same window anyway."""
    last_start = (workload.out_size[axis] - 1) * workload.stride[axis] - workload.padding[axis]
    return workload.dilation[axis] == 1 and workload.padding[axis] < workload.kernel[axis] and last_start < workload.shape[1 + axis]


def _clamped(workload: MaxPoolWorkload, axis: int, position: Expr) -> Expr:
    least, greatest = _reaches(workload, axis)
    last = workload.shape[1 + axis] - 1
    if greatest > last:
        position = tirx.min(position, tirx.const(last, "int32"))
    return tirx.max(position, tirx.const(0, "int32")) if least < 0 else position


def _count(workload: AvgPoolWorkload, axis: int, out: Expr) -> Expr:
    """How many of the window's taps along the axis count at output position `out`."""
    size, kernel, dilation = workload.shape[1 + axis], workload.kernel[axis], workload.dilation[axis]
    low, high = (-workload.padding[axis], size + workload.padding[axis + 2]) if workload.count_include_pad else (0, size)
    least, greatest = _reaches(workload, axis)
    if low <= least and greatest < high:
        return tirx.const(kernel, "int32")
    start = out * workload.stride[axis] - workload.padding[axis]
    # Taps k with low <= start + k * dilation < high.
    first = tirx.max(tirx.floordiv(low - start + (dilation - 1), dilation), tirx.const(0, "int32"))
    end = tirx.min(tirx.floordiv(high - 1 - start, dilation) + 1, tirx.const(kernel, "int32"))
    return tirx.max(end - first, tirx.const(0, "int32"))
