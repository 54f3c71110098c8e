from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from conv_reference import Arguments, draw_arguments, expected, finished, run_kernel
from emulated_x86 import spec_that_runs_here
from hypothesis import given, settings
from hypothesis import strategies as st

from tvm_rsq.targets.kernel import Kernel
from tvm_rsq.targets.parse import parse_target
from tvm_rsq.targets.workload import Conv2DWorkload, Epilogue

# AVX2 with FMA, SSE2 without (where requantization goes through float64), and AVX-512.
TARGETS = ["haswell", "x86-64", "skylake-avx512", "cortex-a72"]
# Totals of every size, at both ends of int32.
TOTALS = np.array([0, 1, -1, 2, 3, -3, 255, 256, -256, 12345, -54321, 2**20, -(2**20), 2**24 + 1, 2**31 - 1, -(2**31)])
# Every form of `Epilogue`: requantize, residual, shared_residual.
FORMS = [
    ("float", False, False), ("float", True, False), ("float", True, True), ("shift", False, False), ("shift", True, True),
    ("fixed_point", False, False), ("fixed_point", True, False), ("fixed_point", True, True),
]  # fmt: skip


def totals_only(e: Epilogue, totals: np.ndarray, multiplier, residual=None, affine=None) -> tuple[Conv2DWorkload, Arguments]:
    """A convolution whose weights are zero: channel c of each of its pixels is the epilogue of totals[c]."""
    w = Conv2DWorkload(batch=1, height=1, width=3, in_channels=4, out_channels=len(totals), kernel=(1, 1), epilogue=e)
    residual = np.broadcast_to(residual, (1, 1, 3, len(totals))).astype("uint8") if e.residual else None
    data, weight = np.full((1, 1, 3, 4), 255, "uint8"), np.zeros((len(totals), 1, 1, 4), "int8")
    return w, Arguments(data, weight, totals.astype("int32"), np.asarray(multiplier), residual, affine)


@st.composite
def epilogues(draw) -> Epilogue:
    requantize, residual, shared = draw(st.sampled_from(FORMS))
    return Epilogue(
        requantize=requantize,
        residual=residual,
        shared_residual=shared,
        per_channel=draw(st.booleans()),
        bounded=draw(st.booleans()),
        zero_point=draw(st.integers(0, 255)),
        residual_zero_point=draw(st.integers(0, 255)) if residual else 0,
        qmin=draw(st.sampled_from([0, 3])),
        qmax=draw(st.sampled_from([255, 63])),
    )


@pytest.mark.parametrize("target", TARGETS)
@settings(max_examples=14, deadline=None, derandomize=True)
@given(e=epilogues(), channels=st.integers(1, 70), depthwise=st.booleans(), extreme=st.booleans(), seed=st.integers(0, 2**16))
def test_every_form_within_a_convolution(target, e, channels, depthwise, extreme, seed):
    groups = channels if depthwise and channels > 1 else 1
    w = Conv2DWorkload(
        batch=1, height=3, width=7, in_channels=groups * (1 if groups > 1 else 5), out_channels=channels, kernel=(1, 3),
        groups=groups, input_zero_point=7, padding=(0, 1, 0, 1), epilogue=e,
    )  # fmt: skip
    a = draw_arguments(w, np.random.default_rng(seed), extreme=extreme)
    np.testing.assert_array_equal(run_kernel(spec_that_runs_here(target), w, a), expected(w, a))


@pytest.mark.parametrize("target", TARGETS)
@settings(max_examples=12, deadline=None, derandomize=True)
@given(e=epilogues(), seed=st.integers(0, 2**16))
def test_totals_of_any_size(target, e, seed):
    """Not bounded: outputs far outside 0..255, on both sides."""
    rng = np.random.default_rng(seed)
    totals = np.concatenate([TOTALS, rng.integers(-(2**31), 2**31, 19)])
    n = len(totals) if e.per_channel else 1
    if e.requantize == "float":
        multiplier, affine = (2.0 ** rng.uniform(-30, 10, n)).astype("float32"), np.array([1.7, -200.0], "float32")
    elif e.requantize == "shift":
        multiplier, affine = rng.integers(1, 31, n).astype("int32"), None
    else:
        multiplier = np.array([rng.integers(2**30, 2**31, n), rng.integers(1, 63, n)], "int32")
        affine = np.array([2**31 - 1, rng.choice([1, 31, 62])], "int32")
    affine = affine if e.residual and not e.shared_residual else None
    w, a = totals_only(replace(e, bounded=False), totals, multiplier, rng.choice([0, 1, 128, 255], len(totals)), affine)
    np.testing.assert_array_equal(run_kernel(spec_that_runs_here(target), w, a), expected(w, a))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("form", FORMS, ids=lambda f: "-".join(map(str, f)))
@pytest.mark.parametrize("bits", [21, 15])
def test_ties_and_the_ends_of_what_bounded_and_short_promise(target, form, bits):
    """Halves of both signs; then q one below 2^bits in size, where the packs have to saturate twice."""
    requantize, residual, shared = form
    e = Epilogue(requantize=requantize, residual=residual, shared_residual=shared, bounded=True, short=bits == 15)
    limit = 2 * (2**bits - 257)
    totals = np.array(
        [*range(-9, 23), 253, 255, 509, 511, 513, limit, -limit, limit - 1, 1 - limit, 65535 * 2, -65537 * 2, 32767 * 2, 2**17]
    )
    totals = totals[np.abs(totals) <= limit]
    multiplier = {"float": np.float32([0.5]), "shift": np.int32([1]), "fixed_point": np.int32([[2**30], [31]])}[requantize]
    affine = None
    if residual and not shared:
        affine = {"float": np.float32([1, 0]), "fixed_point": np.int32([2**30, 30])}[requantize]
    w, a = totals_only(e, totals, multiplier, np.arange(len(totals)) % 2 * 255, affine)
    got = run_kernel(spec_that_runs_here(target), w, a)
    np.testing.assert_array_equal(got, expected(w, a))
    r = np.arange(len(totals)) % 2 * 255 if residual else 0
    halves = np.rint(totals / 2 + r) if requantize == "float" else np.floor(totals / 2 + (0.5 if requantize == "fixed_point" else 0)) + r
    np.testing.assert_array_equal(got[0, 0, 0], np.clip(halves, 0, 255))


def test_the_check_sees_a_wrong_form():
    """The reference tells rounding half to even, half up and down, and a residual that is added after rounding, apart."""
    totals, r = np.arange(-7, 9), np.full(16, 3)
    even = finished(Epilogue(residual=True, shared_residual=True), totals, np.float32([0.5]), r, None)
    late = np.clip(finished(Epilogue(zero_point=128), totals, np.float32([0.5]), None, None).astype(int) - 128 + 3, 0, 255)
    up = finished(Epilogue(requantize="fixed_point"), totals, np.int32([[2**30], [31]]), None, None)
    down = finished(Epilogue(requantize="shift"), totals, np.int32([1]), None, None)
    assert (even != late).any() and (up != down).any()
    assert (up != finished(Epilogue(), totals, np.float32([0.5]), None, None)).any()


def test_arguments_follow_the_protocol():
    def arguments(**epilogue) -> list[tuple[tuple[int, ...], str]]:
        w = Conv2DWorkload(batch=1, height=2, width=2, in_channels=4, out_channels=8, kernel=(1, 1), epilogue=Epilogue(**epilogue))
        kernel: Kernel = parse_target("haswell").library.conv2d(w)
        types = [p.ty for p in kernel.prim_func.params][3:-1]
        return [(tuple(int(n) for n in t.shape), str(t.dtype)) for t in types]

    residual = ((1, 2, 2, 8), "uint8")
    assert arguments(per_channel=True, residual=True) == [((8,), "float32"), residual, ((2,), "float32")]
    assert arguments(residual=True, shared_residual=True) == [((1,), "float32"), residual]
    assert arguments(requantize="shift", residual=True, shared_residual=True) == [((1,), "int32"), residual]
    assert arguments(requantize="fixed_point", per_channel=True, residual=True) == [((2, 8), "int32"), residual, ((2,), "int32")]


@pytest.mark.parametrize(
    "epilogue", [dict(out="float32", requantize="shift"), dict(out="float32", residual=True, shared_residual=True),
                 dict(requantize="shift", residual=True)]
)  # fmt: skip
def test_a_form_without_a_formula_is_refused(epilogue):
    w = Conv2DWorkload(batch=1, height=2, width=2, in_channels=4, out_channels=8, kernel=(1, 1), epilogue=Epilogue(**epilogue))
    with pytest.raises(ValueError, match="has no formula, expected"):
        parse_target("haswell").library.conv2d(w)
