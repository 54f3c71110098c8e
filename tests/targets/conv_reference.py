"""An independent numpy convolution with the epilogue's formulas, and arguments to feed it and a kernel."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import tvm
from emulated_x86 import compile_here

from tvm_rsq.targets.carried import level_array, stored_array
from tvm_rsq.targets.kernel import Kernel
from tvm_rsq.targets.spec import TargetSpec
from tvm_rsq.targets.workload import Conv2DWorkload, Epilogue

# What the output holds before: a value that is never written does not pass for a zero.
POISON = 77


@dataclass(frozen=True)
class Arguments:
    data: np.ndarray
    weight: np.ndarray
    bias: np.ndarray
    multiplier: np.ndarray | None
    residual: np.ndarray | None
    affine: np.ndarray | None


def draw_arguments(w: Conv2DWorkload, rng: np.random.Generator, *, extreme: bool) -> Arguments:
    """Random arguments whose outputs spread over the output's range; extreme: only the smallest and largest values go in."""
    e, fan_in = w.epilogue, w.kernel[0] * w.kernel[1] * w.in_channels // w.groups
    data_shape = (w.batch, w.height, w.width, w.in_channels)
    weight_shape = (w.out_channels, *w.kernel, w.in_channels // w.groups)
    out_shape = (w.batch, w.out_height, w.out_width, w.out_channels)
    if w.in_dtype == "float32":
        normal = [rng.standard_normal(s).astype("float32") for s in (data_shape, weight_shape, (w.out_channels,), out_shape)]
        return Arguments(*normal[:3], None, normal[3] if e.residual else None, None)
    data = rng.choice([0, 255], data_shape) if extreme else rng.integers(0, 256, data_shape)
    weight = rng.choice([-127, 127], weight_shape) if extreme else rng.integers(-127, 128, weight_shape)
    multiplier, rest, affine = _draw_requantization(w, rng, np.sqrt(fan_in) * 100)
    return Arguments(
        data.astype("uint8"),
        weight.astype("int8"),
        (rng.integers(-1000, 1000, w.out_channels) + rest).astype("int32"),
        multiplier,
        rng.integers(0, 256, out_shape).astype("uint8") if e.residual else None,
        affine if e.residual and not e.shared_residual else None,
    )


def _draw_requantization(w: Conv2DWorkload, rng: np.random.Generator, spread: float) -> tuple[np.ndarray, np.ndarray | int, np.ndarray]:
    """(multiplier near 1 / spread, what the bias holds for it, residual_affine) of int or float arithmetic."""
    e = w.epilogue
    n = w.out_channels if e.per_channel else 1
    if e.requantize == "float":
        return (rng.uniform(0.5, 1.5, n) / spread).astype("float32"), 0, np.array([0.37, -3.3], "float32")
    bits = rng.integers(-1, 2, n) + round(np.log2(spread))
    if e.requantize == "shift":
        return bits.astype("int32"), 2 ** (bits - 1) + (e.zero_point - e.residual_zero_point) * 2**bits, np.array([])
    y = rng.integers(2**30, 2**31, n)
    return np.array([y, bits + 31], "int32"), 0, np.array([rng.integers(2**30, 2**31), rng.integers(31, 34)], "int32")


def expected(w: Conv2DWorkload, a: Arguments) -> np.ndarray:
    """What the workload's docstring says, in float64 and wider: every float32 rounding is written out."""
    e, acc = w.epilogue, _accumulate(w, a) + a.bias
    if w.in_dtype == "float32":
        return np.clip(acc + (a.residual if e.residual else 0), e.low, e.high)
    return finished(e, acc.astype("int32"), a.multiplier, a.residual, a.affine)


def finished(e: Epilogue, total: np.ndarray, multiplier: np.ndarray, residual: np.ndarray | None, affine: np.ndarray | None) -> np.ndarray:
    """The output for int32 totals (..., OC) by the formulas of `Epilogue`: uint8 or float32."""
    if e.requantize != "float":
        r = residual.astype("int64") if e.residual else 0
        if e.requantize == "shift":
            q = (total >> multiplier) + r
        else:
            q = _fixed_point(total, *multiplier) + e.zero_point
            if e.residual:
                r = r - e.residual_zero_point
                q = q + (r if e.shared_residual else _fixed_point(r, *affine))
        return np.clip(q, e.qmin, e.qmax).astype("uint8")
    wide = np.longdouble
    x = total.astype("float32").astype(wide) * multiplier.astype(wide)
    if e.residual and e.shared_residual:
        y = x + (e.zero_point - e.residual_zero_point + residual.astype(wide))
    elif e.residual:
        addend = (residual.astype(wide) * wide(affine[0]) + wide(affine[1])).astype("float32")
        y = (x + addend).astype("float32")
    else:
        y = x + e.zero_point if e.out != "float32" else x.astype("float32")
    if e.out != "float32":
        return np.clip(np.rint(y), e.qmin, e.qmax).astype("uint8")
    return np.clip(y, np.float32(e.low), np.float32(e.high))


def _fixed_point(x: np.ndarray, y: np.ndarray, s: np.ndarray) -> np.ndarray:
    """floor(x * y / 2^s + 1/2) in Python's integers."""
    exact = np.asarray(x).astype(object) * np.asarray(y).astype(object)
    twos = 2 ** np.asarray(s).astype(object)
    return (2 * exact + twos) // (2 * twos)


def run_kernel(spec: TargetSpec, w: Conv2DWorkload, a: Arguments, kernel: Kernel | None = None) -> np.ndarray:
    """The output of `kernel`, or of the library's own, compiled for `spec` or emulated; levels, whatever carries them.

    w  of uint8, for the library's own kernel: it is made of the same workload in the library's carrier
    """
    if kernel is None:
        w = carried(w, spec.library.carrier)
        kernel = spec.library.conv2d(w)
    compiled = compile_here(kernel.prim_func, spec)
    s = as_stored(w, a)
    inputs = [s.data, kernel.pack_weight(s.weight), s.bias, s.multiplier, s.residual, s.affine]
    tensors = [tvm.runtime.tensor(v) for v in inputs if v is not None]
    output = tvm.runtime.tensor(np.full(w.out_shape, POISON, w.epilogue.out))
    compiled(*tensors, output)
    return level_array(output.numpy())


def as_stored(w: Conv2DWorkload, a: Arguments) -> Arguments:
    """The arguments, levels, as a kernel of `w` takes them."""
    if w.in_dtype != "int8":
        return a
    missing = 128 * a.weight.reshape(len(a.weight), -1).sum(axis=1, dtype="int64")  # 128 of every pixel
    data, residual = (v if v is None else stored_array(v, "int8") for v in (a.data, a.residual))
    return replace(a, data=data, residual=residual, bias=(a.bias + missing).astype("int32"))


def carried(w: Conv2DWorkload, carrier: str) -> Conv2DWorkload:
    """A workload of uint8 as one of another carrier; a float one as it is."""
    if w.in_dtype == "float32":
        return w
    out = w.epilogue.out if w.epilogue.out == "float32" else carrier
    return replace(w, in_dtype=carrier, epilogue=replace(w.epilogue, out=out))


def _accumulate(w: Conv2DWorkload, a: Arguments) -> np.ndarray:
    top, left, bottom, right = w.padding
    value = 0 if w.in_dtype == "float32" else w.input_zero_point
    x = np.pad(a.data.astype("float64"), ((0, 0), (top, bottom), (left, right), (0, 0)), constant_values=value)
    outs, ins = w.out_channels // w.groups, w.in_channels // w.groups
    acc = np.zeros((w.batch, w.out_height, w.out_width, w.out_channels))
    for oh in range(w.out_height):
        for ow in range(w.out_width):
            h, v = oh * w.stride[0], ow * w.stride[1]
            window = x[
                :,
                h : h + w.dilation[0] * (w.kernel[0] - 1) + 1 : w.dilation[0],
                v : v + w.dilation[1] * (w.kernel[1] - 1) + 1 : w.dilation[1],
            ]
            for g in range(w.groups):
                filters = a.weight[g * outs : (g + 1) * outs].astype("float64")
                acc[:, oh, ow, g * outs : (g + 1) * outs] = np.einsum("nhwi,ohwi->no", window[..., g * ins : (g + 1) * ins], filters)
    return acc
