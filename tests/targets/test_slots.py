"""Slots of packed weights: the output channel of each, for every choice of every kind of kernel, and weights that are expanded by it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import tvm
from conv_reference import POISON, carried, draw_arguments, expected
from emulated_x86 import compile_here, spec_that_runs_here
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from test_conv2d import workloads

from tvm_rsq.targets.code_rows import CODE_BITS
from tvm_rsq.targets.generic.winograd_tile import WinogradTile
from tvm_rsq.targets.kernel import Kernel
from tvm_rsq.targets.parse import parse_target
from tvm_rsq.targets.slots import packed_codes, slot_channels
from tvm_rsq.targets.workload import Conv2DWorkload, Epilogue, ExpandWorkload

TARGETS = ["x86-64-vnni", "haswell", "aarch64"]

CORNERS = {
    "whole tiles": dict(height=4, width=28, in_channels=64, out_channels=64, kernel=(3, 3), padding=(1, 1, 1, 1)),
    "overlapping blocks": dict(height=6, width=6, in_channels=3, out_channels=45, kernel=(3, 3), padding=(1, 1, 1, 1)),
    "short sums": dict(height=5, width=9, in_channels=16, out_channels=24, kernel=(3, 3), accumulate16=4),
    "dense": dict(height=1, width=1, in_channels=130, out_channels=1000, kernel=(1, 1)),
    "dense of one input": dict(height=1, width=1, in_channels=1, out_channels=10_007, kernel=(1, 1)),
    "in streams": dict(height=1, width=1, in_channels=1030, out_channels=1100, kernel=(1, 1)),
    "in streams, of taps": dict(height=3, width=3, in_channels=150, out_channels=800, kernel=(3, 3)),
    "dense of five": dict(height=1, width=1, in_channels=64, out_channels=5, kernel=(1, 1)),
    "depthwise": dict(height=9, width=9, in_channels=24, out_channels=24, kernel=(3, 3), groups=24),
    "depthwise, odd": dict(height=9, width=9, in_channels=37, out_channels=37, kernel=(5, 3), stride=(1, 1), groups=37),
    "groups": dict(height=5, width=5, in_channels=24, out_channels=60, kernel=(3, 3), padding=(1, 1, 1, 1), groups=3),
    "joined groups": dict(height=5, width=5, in_channels=6, out_channels=12, kernel=(3, 3), groups=6),
}


def workload(corner: str, in_dtype: str) -> Conv2DWorkload:
    e = Epilogue(per_channel=True) if in_dtype == "uint8" else Epilogue(out="float32")
    w = Conv2DWorkload(batch=1, in_dtype=in_dtype, epilogue=e, **CORNERS[corner])
    return w if in_dtype == "uint8" else replace(w, accumulate16=0)


def check_spread(kernel: Kernel, w: Conv2DWorkload) -> None:
    """Of an array of channel numbers, counted from 1, a packed slot has one alone: that which slot_channels says."""
    shape = (w.out_channels, *w.kernel, w.in_channels // w.groups)
    found = slot_channels(kernel, shape)
    a, r, p, d = kernel.spread
    assert found.shape == (a, p)
    for unit in (1, 120, 14_400):  # int8 kernels pack nothing larger than 127
        digits = (np.arange(w.out_channels) // unit % 120 + 1).astype(np.int8)
        packed = kernel.pack_weight(np.array(np.broadcast_to(digits[:, None, None, None], shape))).reshape(a, r, p, d)
        said = digits[found][:, None, :, None]
        assert ((packed == said) | (packed == 0)).all(), kernel.name
        assert set(np.unique(packed[packed != 0]).tolist()) == set(digits.tolist())


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("corner", CORNERS)
@pytest.mark.parametrize("in_dtype", ["uint8", "float32"])
def test_every_choice_of_a_corner_has_slots_of_one_channel(target, corner, in_dtype):
    library = parse_target(target).library
    w = carried(workload(corner, in_dtype), library.carrier)
    space, without = library.conv2d_space(w), 0
    some = space if w.out_channels * w.in_channels < 10**5 else space[::9]  # a million weights, and many ways that differ in order only
    for choice in some:
        kernel = library.conv2d(w, choice)
        if kernel.spread is None:
            without += 1
            streamed = corner.startswith("in streams") and getattr(choice, "unroll", 1) > 1
            assert isinstance(choice, WinogradTile) or streamed, choice
        else:
            check_spread(kernel, w)
    assert library.conv2d(w).spread is not None or isinstance(space[0], WinogradTile)
    assert without < len(some)


@pytest.mark.parametrize("target", TARGETS)
@settings(max_examples=25, deadline=None, derandomize=True)
@given(w=workloads(), at=st.integers(0, 10**6), is_float=st.booleans())
def test_any_choice_has_slots_of_one_channel(target, w, at, is_float):
    w = replace(w, in_dtype="float32", epilogue=Epilogue(out="float32")) if is_float else w
    library = parse_target(target).library
    w = carried(w, library.carrier)
    space = library.conv2d_space(w)
    kernel = library.conv2d(w, space[at % len(space)])
    if kernel.spread is not None:
        check_spread(kernel, w)


def drawn_books(count: int, bits: int, rng: np.random.Generator) -> np.ndarray:
    """int8 (count, 2^bits), ascending, 0 in each, at another place."""
    others = np.setdiff1d(np.arange(-127, 128), [0])
    return np.stack([np.sort(np.append(rng.choice(others, 2**bits - 1, replace=False), 0)) for _ in range(count)]).astype(np.int8)


@pytest.mark.parametrize("target", ["llvm", "haswell"])
@settings(max_examples=10, deadline=None, derandomize=True)
@given(w=workloads(), bits=st.sampled_from(CODE_BITS), of=st.integers(1, 5), at=st.integers(0, 10**6), seed=st.integers(0, 2**16))
def test_weights_of_several_books_are_expanded_bit_for_bit(target, w, bits, of, at, seed):
    spec, rng = spec_that_runs_here(target), np.random.default_rng(seed)
    space = [choice for choice in spec.library.conv2d_space(w) if not isinstance(choice, WinogradTile)]
    kernel = spec.library.conv2d(w, space[at % len(space)])
    a = draw_arguments(w, rng, extreme=False)
    book_of = np.arange(w.out_channels) // of
    assume(book_of[-1] > 0)
    books, each = drawn_books(book_of[-1] + 1, bits, rng), rng.integers(0, 2**bits, a.weight.shape).astype(np.uint8)
    weight = books[book_of[:, None, None, None], each]
    slots = book_of[slot_channels(kernel, weight.shape)]
    stored = packed_codes(kernel, each, (books == 0).argmax(1)[slots].astype(np.uint8))
    plain = kernel.pack_weight(weight)
    task = ExpandWorkload(bits=bits, shape=plain.shape, dtype=str(plain.dtype), books=len(books), spread=kernel.spread)
    expanded = made(spec, task, stored, books.reshape(-1), (slots * 2**bits).astype(np.int32))
    np.testing.assert_array_equal(expanded, plain)
    output = tvm.runtime.tensor(np.full(w.out_shape, POISON, w.epilogue.out))
    inputs = [v for v in (a.data, expanded, a.bias, a.multiplier, a.residual, a.affine) if v is not None]
    compile_here(kernel.prim_func, spec)(*map(tvm.runtime.tensor, inputs), output)
    np.testing.assert_array_equal(output.numpy(), expected(w, replace(a, weight=weight)))


def made(spec, task: ExpandWorkload, stored: np.ndarray, table: np.ndarray, of_slot: np.ndarray) -> np.ndarray:
    kernel, weight = spec.library.expand(task), tvm.runtime.tensor(np.full(task.shape, POISON, task.dtype))
    arrays = (kernel.pack_weight(stored), table, of_slot.reshape(-1))
    compile_here(kernel.prim_func, spec)(*map(tvm.runtime.tensor, arrays), weight)
    return weight.numpy()


@pytest.mark.parametrize("target", ["llvm", "haswell"])
@pytest.mark.parametrize("bits", CODE_BITS)
@pytest.mark.parametrize("corner", ["overlapping blocks", "in streams", "depthwise, odd", "groups", "dense of five"])
def test_float_weights_are_expanded_bit_for_bit(target, bits, corner):
    spec, w, rng = spec_that_runs_here(target), workload(corner, "float32"), np.random.default_rng(bits)
    kernel = spec.library.conv2d(w)
    levels = np.sort(np.append(rng.standard_normal(2**bits - 1), 0)).astype(np.float32)
    scale = np.geomspace(1e-6, 3, w.out_channels).astype(np.float32)
    each = rng.integers(0, 2**bits, (w.out_channels, *w.kernel, w.in_channels // w.groups)).astype(np.uint8)
    slots = slot_channels(kernel, each.shape)
    stored = packed_codes(kernel, each, np.full(slots.shape, (levels == 0).argmax(), np.uint8))
    plain = kernel.pack_weight(levels[each] * scale[:, None, None, None])
    task = ExpandWorkload(bits=bits, shape=plain.shape, dtype="float32", spread=kernel.spread)
    np.testing.assert_array_equal(made(spec, task, stored, levels, scale[slots]), plain)


def test_what_has_no_slots_is_refused():
    library = parse_target("haswell").library
    w = Conv2DWorkload(batch=1, height=28, width=28, in_channels=64, out_channels=64, kernel=(3, 3), padding=(1, 1, 1, 1))
    winograd = library.conv2d(w, next(choice for choice in library.conv2d_space(w) if isinstance(choice, WinogradTile)))
    assert winograd.spread is None
    with pytest.raises(ValueError, match="has no slots, expected a kernel with a spread"):
        slot_channels(winograd, (64, 3, 3, 64))
    for wrong in (dict(books=2), dict(dtype="float32"), dict(books=2, spread=(2, 2, 2, 1)), dict(dtype="float32", spread=(4, 1, 3, 1))):
        with pytest.raises(ValueError, match="expected a spread of 10 values"):
            library.expand(ExpandWorkload(bits=4, shape=(10,), **wrong))
