from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import tvm
from tvm import te, tirx
from tvm.s_tir import Schedule

from tvm_rsq.targets.numerics import dequantize, fma, quantize, requantize
from tvm_rsq.targets.parse import parse_target
from tvm_rsq.targets.spec import host_supports

TARGETS = ["llvm", "haswell", "x86-64"]
SIZE = 256


def evaluate(target: str, dtype: str, function, *inputs: np.ndarray) -> np.ndarray:
    """function(*scalars, form) over the inputs, 16 at a time."""
    spec = parse_target(target)
    if missing := host_supports(spec):
        pytest.skip(f"this machine lacks {', '.join(missing)}")
    tensors = [te.placeholder(x.shape, str(x.dtype), name=f"x{i}") for i, x in enumerate(inputs)]
    result = te.compute(inputs[0].shape, lambda i: function(*[t[i] for t in tensors], spec.form), name="result")
    schedule = Schedule(te.create_prim_func([*tensors, result]))
    (loop,) = schedule.get_loops(schedule.get_sblock("result"))
    schedule.vectorize(schedule.split(loop, [None, 16])[1])
    compiled = tvm.compile(schedule.mod, target=spec.tvm_target())
    output = tvm.runtime.tensor(np.zeros(inputs[0].shape, dtype))
    compiled.mod["main"](*[tvm.runtime.tensor(x) for x in inputs], output)
    return output.numpy()


def rounded_once(exact: Fraction) -> np.float32:
    """The float32 nearest to `exact`, ties to even, by comparing exactly (float(exact) would round twice)."""
    near = np.float32(float(exact))
    candidates = [near, np.nextafter(near, np.float32(np.inf)), np.nextafter(near, np.float32(-np.inf))]
    return min(candidates, key=lambda c: (abs(Fraction(float(c)) - exact), int(c.view("uint32")) & 1))


def reference_requantize(acc, multiplier, zero_point, qmin, qmax) -> np.ndarray:
    """Exact arithmetic; Python's round of a Fraction is half to even."""
    exact = [round(Fraction(float(np.float32(a))) * Fraction(float(m)) + zero_point) for a, m in zip(acc, multiplier, strict=True)]
    return np.clip(exact, qmin, qmax)


def wide_floats(rng: np.random.Generator) -> np.ndarray:
    """Both signs, 14 decades: sums where one term vanishes, almost vanishes, and cancels."""
    return (rng.standard_normal(SIZE) * 10.0 ** rng.integers(-10, 4, SIZE)).astype("float32")


@pytest.mark.parametrize("target", TARGETS)
def test_fma_rounds_once(target):
    rng = np.random.default_rng(0)
    a, b, c = (wide_floats(rng) for _ in range(3))
    # Products just beside a tie of the sum: float64 alone rounds to the tie and then the wrong way.
    a[:2], b[:2], c[:2] = 1 + 2.0**-23, 1 + 2.0**-23, [2.0**30, 3 * 2.0**30]
    a[2], b[2], c[2] = 2.0**-40, 2.0**-20, 1 + 2.0**-23
    a[3], b[3], c[3] = 1 + 2.0**-12, (1 + 2.0**-12) * 2.0**-24, 1.0
    a[4], b[4], c[4] = 3, -(2.0**-60), 0.5
    a[5], b[5], c[5] = 1 + 2.0**-23, -(2.0**-24) * (1 - 2.0**-24), 1 + 2.0**-23
    got = evaluate(target, "float32", lambda a, b, c, form: fma(a, b, c, form=form), a, b, c)
    ref = [rounded_once(Fraction(float(x)) * Fraction(float(y)) + Fraction(float(z))) for x, y, z in zip(a, b, c, strict=True)]
    np.testing.assert_array_equal(got, np.array(ref, "float32"))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(("zero_point", "qmin", "qmax", "dtype"), [(0, 0, 255, "uint8"), (131, 3, 200, "uint8"), (-5, -128, 127, "int8")])
def test_requantize_is_exact(target, zero_point, qmin, qmax, dtype):
    rng = np.random.default_rng(1)
    acc = rng.integers(-40000, 40000, SIZE).astype("int32")
    multiplier = (2.0 ** rng.uniform(-10, -6, SIZE)).astype("float32")
    acc[:64] = np.arange(-32, 32) * 2 + 1
    multiplier[:64] = 0.5  # all ties
    acc[64:68] = [-(2**31), 2**31 - 1, 2**24 + 1, 0]
    multiplier[64:68] = [1e4, 1e4, 2.0**-20, 1.0]  # far outside, and an accumulator that float32 rounds
    got = evaluate(target, dtype, lambda a, m, form: requantize(a, m, zero_point, qmin, qmax, form=form, dtype=dtype), acc, multiplier)
    np.testing.assert_array_equal(got, reference_requantize(acc, multiplier, zero_point, qmin, qmax))


@pytest.mark.parametrize("target", TARGETS)
def test_requantize_with_an_addend_rounds_the_fma_first(target):
    rng = np.random.default_rng(2)
    acc = rng.integers(-40000, 40000, SIZE).astype("int32")
    multiplier = (2.0 ** rng.uniform(-10, -7, SIZE)).astype("float32")
    addend = rng.uniform(0, 200, SIZE).astype("float32")
    acc[0], multiplier[0], addend[0] = 1, 2.0**-30, 127.5  # exactly above the tie, on it in float32: rounds to 128, and 126.5 to 126
    acc[1], multiplier[1], addend[1] = 1, 2.0**-30, 126.5
    got = evaluate(target, "uint8", lambda a, m, c, form: requantize(a, m, c, 0, 255, form=form), acc, multiplier, addend)
    first = [
        rounded_once(Fraction(float(np.float32(a))) * Fraction(float(m)) + Fraction(float(c)))
        for a, m, c in zip(acc, multiplier, addend, strict=True)
    ]
    np.testing.assert_array_equal(got, np.clip(np.rint(np.array(first, "float64")), 0, 255))


@pytest.mark.parametrize("target", TARGETS)
def test_quantize_and_back_stay_within_half_a_step(target):
    scale, zero_point = np.float32(0.037), 93
    inverse = np.float32(1) / scale
    x = np.linspace(-3, 5, SIZE).astype("float32")
    x[:2] = [np.inf, -np.inf]
    q = evaluate(target, "uint8", lambda x, form: quantize(x, tirx.const(float(inverse), "float32"), zero_point, form=form), x)
    exact = [round(Fraction(float(v)) * Fraction(float(inverse)) + zero_point) for v in x[2:]]
    np.testing.assert_array_equal(q[2:], np.clip(exact, 0, 255))
    assert (q[0], q[1]) == (255, 0)
    back = evaluate(target, "float32", lambda q, _: dequantize(q, tirx.const(float(scale), "float32"), zero_point), q)
    inside = (q > 0) & (q < 255)
    # 1/scale, the product and the way back each round once more, at values below 5.
    assert np.abs(back - x)[inside].max() <= scale / 2 + 5 * 4 * 2.0**-24
