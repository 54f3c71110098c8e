"""Weights as codes: rows of bits, kernels that look codes up, weights that are expanded; all bit for bit what plain weights give."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import tvm
from conv_reference import POISON, Arguments, as_stored, carried, draw_arguments, expected
from emulated_x86 import compile_here, spec_that_runs_here
from hypothesis import given, settings
from hypothesis import strategies as st
from test_conv2d import workloads

from tvm_rsq.codebook.encode import codes
from tvm_rsq.targets.carried import level_array
from tvm_rsq.targets.code_rows import CODE_BITS, CodeRows
from tvm_rsq.targets.generic.library import GenericLibrary
from tvm_rsq.targets.generic.streams import waits_for_memory
from tvm_rsq.targets.generic.tiles import Tile
from tvm_rsq.targets.kernel import Kernel
from tvm_rsq.targets.spec import TargetSpec
from tvm_rsq.targets.workload import Conv2DWorkload, Epilogue, ExpandWorkload

# AVX-512 with VNNI and VBMI where this machine has it, with VNNI and without VBMI, AVX2, SSE2, which has no byte shuffle, and NEON.
TARGETS = ["llvm", "x86-64-vnni", "skylake-avx512", "haswell", "x86-64", "aarch64"]


def drawn_book(bits: int, rng: np.random.Generator) -> np.ndarray:
    """int8 (2^bits,), ascending, 0 among them."""
    others = np.setdiff1d(np.arange(-127, 128), [0])
    return np.sort(np.append(rng.choice(others, 2**bits - 1, replace=False), 0)).astype(np.int8)


def coded_arguments(w: Conv2DWorkload, rng: np.random.Generator) -> tuple[Arguments, np.ndarray]:
    book = drawn_book(w.code_bits, rng)
    a = draw_arguments(replace(w, code_bits=0), rng, extreme=False)
    return replace(a, weight=rng.choice(book, a.weight.shape)), book


def run_coded(spec: TargetSpec, w: Conv2DWorkload, a: Arguments, book: np.ndarray, kernel: Kernel) -> np.ndarray:
    """The kernel's output for the arguments; its weight expanded before where the kernel is a plain one."""
    packed = kernel.pack_weight(a.weight)
    if kernel.codes or kernel.expanded:
        each = codes(packed.reshape(1, -1), book[None]).reshape(packed.shape)
    if kernel.codes:
        weight = [kernel.codes.pack(each).reshape(-1), kernel.codes.table(book)]
    elif kernel.expanded:
        weight = [expanded(spec, each, book, str(packed.dtype))]
    else:
        weight = [packed]
    s = as_stored(w, a)
    inputs = [s.data, *weight, s.bias, s.multiplier, s.residual, s.affine]
    output = tvm.runtime.tensor(np.full(w.out_shape, POISON, w.epilogue.out))
    compile_here(kernel.prim_func, spec)(*[tvm.runtime.tensor(v) for v in inputs if v is not None], output)
    return level_array(output.numpy())


def expanded(spec: TargetSpec, each: np.ndarray, book: np.ndarray, dtype: str) -> np.ndarray:
    bits = len(book).bit_length() - 1
    kernel = spec.library.expand(ExpandWorkload(bits=bits, shape=each.shape, dtype=dtype))
    made = tvm.runtime.tensor(np.full(each.shape, POISON, dtype))
    arrays = (kernel.pack_weight(each), CodeRows(bits).table(book))
    compile_here(kernel.prim_func, spec)(*map(tvm.runtime.tensor, arrays), made)
    return made.numpy()


@pytest.mark.parametrize("target", TARGETS)
@settings(max_examples=5, deadline=None, derandomize=True)
@given(w=workloads(), bits=st.sampled_from(CODE_BITS), at=st.integers(0, 10**6), seed=st.integers(0, 2**16))
def test_any_choice_equals_the_reference_bit_for_bit(target, w, bits, at, seed):
    spec = spec_that_runs_here(target)
    w = carried(replace(w, code_bits=bits), spec.library.carrier)
    a, book = coded_arguments(w, np.random.default_rng(seed))
    space = spec.library.conv2d_space(w)
    np.testing.assert_array_equal(run_coded(spec, w, a, book, spec.library.conv2d(w, space[at % len(space)])), expected(w, a))


CORNERS = {
    "whole tiles": dict(height=4, width=28, in_channels=64, out_channels=64, kernel=(3, 3), padding=(1, 1, 1, 1)),
    "one step a tap": dict(height=6, width=6, in_channels=3, out_channels=40, kernel=(3, 3), padding=(1, 1, 1, 1)),
    "three steps a tap": dict(height=5, width=9, in_channels=12, out_channels=16, kernel=(3, 3)),
    "dense": dict(height=1, width=1, in_channels=130, out_channels=1000, kernel=(1, 1)),
    "in streams": dict(height=1, width=1, in_channels=1030, out_channels=1100, kernel=(1, 1)),
    "in streams, of taps": dict(height=3, width=3, in_channels=150, out_channels=800, kernel=(3, 3)),
    "dense of five": dict(height=1, width=1, in_channels=64, out_channels=5, kernel=(1, 1)),
    "depthwise": dict(height=9, width=9, in_channels=24, out_channels=24, kernel=(3, 3), groups=24),
    "groups": dict(height=5, width=5, in_channels=24, out_channels=60, kernel=(3, 3), padding=(1, 1, 1, 1), groups=3),
    "joined groups": dict(height=5, width=5, in_channels=6, out_channels=12, kernel=(3, 3), groups=6),
}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("corner", CORNERS)
def test_corners(target, corner):
    spec, bits = spec_that_runs_here(target), CODE_BITS[([*CORNERS].index(corner) + TARGETS.index(target)) % len(CODE_BITS)]
    w = Conv2DWorkload(batch=1, input_zero_point=7, code_bits=bits, epilogue=Epilogue(per_channel=True), **CORNERS[corner])
    w = carried(w, spec.library.carrier)
    a, book = coded_arguments(w, np.random.default_rng(1))
    space = spec.library.conv2d_space(w)
    looked_up = list({choice.codes: choice for choice in reversed(space) if isinstance(choice, Tile) and choice.codes != "load"}.values())
    for choice in [space[0], *looked_up, *(replace(c, unroll=3) for c in looked_up)]:
        np.testing.assert_array_equal(run_coded(spec, w, a, book, spec.library.conv2d(w, choice)), expected(w, a))


@given(st.sampled_from(CODE_BITS), st.integers(1, 5), st.integers(1, 9), st.integers(0, 2**16))
def test_rows_hold_every_code(bits, groups, lanes, seed):
    rows = CodeRows(bits)
    each = np.random.default_rng(seed).integers(0, 2**bits, (groups, rows.vectors, lanes)).astype(np.uint8)
    packed = rows.pack(each)
    assert packed.shape == (groups, rows.rows, lanes) and rows.rows * 8 == rows.vectors * bits
    stream = np.unpackbits(packed, axis=1, bitorder="little").sum()
    assert stream == np.unpackbits(each, axis=1).sum(), "every bit once"


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("bits", CODE_BITS)
@pytest.mark.parametrize(("shape", "dtype"), [((5,), "int8"), ((64,), "int8"), ((700, 3), "int16"), ((513,), "int8"), ((6, 1000), "int8")])
def test_expanded_weights(target, bits, shape, dtype):
    rng = np.random.default_rng(3)
    book, each = drawn_book(bits, rng), rng.integers(0, 2**bits, shape).astype(np.uint8)
    np.testing.assert_array_equal(expanded(spec_that_runs_here(target), each, book, dtype), book[each])


def test_untuned_kernels_look_codes_up_where_they_wait_for_memory():
    library = spec_that_runs_here("llvm").library
    dense = Conv2DWorkload(batch=1, height=1, width=1, in_channels=4096, out_channels=4096, kernel=(1, 1), code_bits=4)
    assert waits_for_memory(dense) and library.conv2d(dense).codes and library.conv2d(dense).name.endswith("_codes4")
    for other in (replace(dense, batch=4), replace(dense, out_channels=64), replace(dense, height=7, width=7)):
        assert not waits_for_memory(other) and library.conv2d(other).expanded == 4


def test_a_block_of_weights_is_in_memory_of_its_own_and_codes_of_the_next_are_asked_for():
    library = spec_that_runs_here("llvm").library
    w = Conv2DWorkload(batch=1, height=14, width=14, in_channels=256, out_channels=256, kernel=(3, 3), padding=(1,) * 4, code_bits=4)
    choice = next(c for c in library.conv2d_space(w) if isinstance(c, Tile) and c.codes == "block")
    kernel = library.conv2d(w, choice)
    script = kernel.prim_func.script()
    block = choice.vecs * choice.lanes * 9 * 256
    assert kernel.name.endswith("_blocks4") and f"alloc_buffer(({block},), \"int8\"" in script and "llvm.prefetch" in script
    assert not any(c.codes == "block" for c in library.conv2d_space(replace(w, height=1, width=1)) if isinstance(c, Tile))


def test_a_cpu_that_is_not_known_gathers_bytes():
    spec = spec_that_runs_here("llvm")
    w = Conv2DWorkload(batch=1, height=3, width=5, in_channels=8, out_channels=16, kernel=(3, 3), code_bits=6)
    a, book = coded_arguments(w, np.random.default_rng(2))
    library = GenericLibrary(spec.library.form, vector_bytes=16, registers=32)
    choice = next(c for c in library.conv2d_space(w) if c.codes == "kernel")
    np.testing.assert_array_equal(run_coded(spec, w, a, book, library.conv2d(w, choice)), expected(w, a))
