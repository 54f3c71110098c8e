"""The formulas of workloads_elementwise in exact rational arithmetic, and a runner that compiles a kernel for a CPU."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import tvm
from emulated_x86 import compile_here, spec_that_runs_here  # noqa: F401

from tvm_rsq.targets.kernel import Kernel
from tvm_rsq.targets.spec import TargetSpec

# This machine, AVX2 with FMA, SSE2 without (where requantization goes through float64), and AVX-512.
CPUS = ["llvm", "haswell", "x86-64", "icelake-server"]


def run(spec: TargetSpec, kernel: Kernel, inputs: list[np.ndarray], shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """The kernel's output for `inputs`, compiled for `spec`."""
    compiled = compile_here(kernel.prim_func, spec)
    # Poisoned, so that a value that is never written does not pass for a zero.
    output = tvm.runtime.tensor(np.full(shape, 77, dtype))
    compiled(*[tvm.runtime.tensor(np.ascontiguousarray(x)) for x in inputs], output)
    return output.numpy()


def quantized(rng: np.random.Generator, shape: tuple[int, ...], *, extreme: bool, dtype: str = "uint8") -> np.ndarray:
    """Random values of the carrier; extreme: only its least and greatest."""
    info = np.iinfo(dtype)
    return (rng.choice([info.min, info.max], shape) if extreme else rng.integers(info.min, info.max + 1, shape)).astype(dtype)


def affine_rounded(
    x: np.ndarray, multiplier: np.ndarray | float, addend: np.ndarray | float, qmin: int, qmax: int, dtype: str
) -> np.ndarray:
    """clip(rne(x * multiplier + addend)), rounded once; the three are float32 or integers, of shapes that broadcast."""

    def one(value: Fraction) -> int:
        return min(max(round(value), qmin), qmax)  # round() of a Fraction is exact, ties to even

    return _each(one, _fractions(x) * _fractions(multiplier) + _fractions(addend)).astype(dtype)


def fma32(a: np.ndarray, b: np.ndarray | float, c: np.ndarray | float) -> np.ndarray:
    """float32 of a * b + c, rounded once."""
    return _each(_round32, _fractions(a) * _fractions(b) + _fractions(c)).astype("float32")


def _round32(value: Fraction) -> np.float32:
    guess = np.float32(float(value))  # rounded twice: at most one step off
    around = [np.nextafter(guess, np.float32(-np.inf)), guess, np.nextafter(guess, np.float32(np.inf))]
    return min(around, key=lambda f: (abs(Fraction(float(f)) - value), int(np.float32(f).view(np.int32)) & 1))


def _fractions(x: np.ndarray | float) -> np.ndarray:
    return np.vectorize(lambda v: Fraction(v.item() if hasattr(v, "item") else v), otypes=[object])(x)


def _each(function, values: np.ndarray) -> np.ndarray:  # noqa: ANN001
    return np.vectorize(function, otypes=[object])(values)
