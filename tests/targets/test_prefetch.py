"""Every line of the next block's weights is asked for while this block is in use; kernels that ask give the same integers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import tvm
import tvm_ffi
from conv_reference import draw_arguments, expected, run_kernel
from emulated_x86 import spec_that_runs_here
from hypothesis import given, settings
from hypothesis import strategies as st
from tvm import tirx
from tvm.ir import Call, Expr
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T
from tvm.sym.analyzer import Analyzer
from tvm.tirx import PrimFunc, Var

from tvm_rsq.targets.generic.prefetch import Prefetch
from tvm_rsq.targets.generic.tiles import Tile
from tvm_rsq.targets.parse import parse_target
from tvm_rsq.targets.workload import Conv2DWorkload, Epilogue

LAYER = Conv2DWorkload(
    batch=1, height=7, width=7, in_channels=64, out_channels=136, kernel=(3, 3), padding=(1, 1, 1, 1), input_zero_point=9,
    epilogue=Epilogue(per_channel=True, zero_point=100),
)  # fmt: skip


def asked_for(p: Prefetch, block: int, value_bytes: int = 1) -> set[int]:
    """The bytes of all weights at whose lines the tiles of `block` look, by the addresses in the IR."""
    with IRBuilder() as builder, T.prim_func(s_tir=True):
        T.func_attr({"global_symbol": "main"})
        weight = T.arg("weight", T.buffer((p.blocks * p.block_bytes // value_bytes,), {1: "int8", 2: "int16", 4: "float32"}[value_bytes]))
        with T.serial(p.tiles) as tile, T.serial(p.iterations) as iteration:
            p.emit(weight, value_bytes, tirx.floordiv(p.start(tirx.const(block, "int32"), tile), value_bytes), iteration)
    loops, indices = [], []

    def visit(node: object) -> None:
        if isinstance(node, tirx.For):
            loops.append((node.loop_var, int(node.extent)))
        elif isinstance(node, Call) and getattr(node.op, "name", "") == "tirx.address_of":
            indices.append(node.args[0].indices[0])

    tvm_ffi.structural_walk(builder.get().body, visit)
    assert (len(loops), len(indices)) == (2, p.lines)

    def value(index: Expr, at: tuple[int, ...]) -> int:
        def constant(var: Var) -> Expr:
            return next(tirx.const(number, "int32") for (loop, _), number in zip(loops, at, strict=True) if loop.same_as(var))

        return int(Analyzer().simplify(tvm_ffi.structural_map(index, (Var, constant))))

    return {value(index, at) * value_bytes for index in indices for at in np.ndindex(*(extent for _, extent in loops))}


PREFETCHES = st.builds(
    Prefetch, block_bytes=st.integers(1, 60).map(lambda n: 16 * n), blocks=st.integers(2, 3), tiles=st.integers(1, 6),
    iterations=st.integers(1, 12),
).filter(lambda p: p.fits)  # fmt: skip


@settings(max_examples=40, deadline=None, derandomize=True)
@given(PREFETCHES, st.sampled_from([1, 2, 4]))
def test_every_line_of_the_next_block_is_asked_for_and_none_outside(p, value_bytes):
    for block in range(p.blocks):
        found, following = asked_for(p, block, value_bytes), min(block + 1, p.blocks - 1)
        assert min(found) >= 0 and max(found) < p.blocks * p.block_bytes
        lines = {at // 64 for at in found}
        assert lines >= {at // 64 for at in range(following * p.block_bytes, (following + 1) * p.block_bytes, 16)}


@settings(max_examples=40, deadline=None, derandomize=True)
@given(PREFETCHES)
def test_hardly_more_is_asked_for_than_there_is(p):
    assert len({at // 64 for at in asked_for(p, 0)}) <= p.block_bytes // 64 + 2 + p.iterations * p.lines


def recording(prim_func: PrimFunc) -> PrimFunc:
    """`prim_func` with every prefetch replaced by a call of a Python function with the index that is asked for."""

    def replace_call(call: Call) -> Expr:
        if getattr(call.op, "name", "") != "tirx.call_llvm_intrin":
            return call
        address = next(argument for argument in call.args if isinstance(argument, Call) and argument.op.name == "tirx.address_of")
        return tirx.call_packed("tvm_rsq.test.asked_for", address.args[0].indices[0])

    return prim_func.with_body(tvm_ffi.structural_map(prim_func.body, (Call, replace_call)))


@pytest.mark.parametrize("outer", ["rows", "channels"])
@pytest.mark.parametrize("span", ["row", "image"])
@pytest.mark.parametrize(("segment", "unroll", "vecs"), [(1, 1, 2), (2, 4, 2), (5, 1, 4)])
@pytest.mark.parametrize(("target", "step", "lanes"), [("x86-64-vnni", "vnni512", 16), ("haswell", "madd256", 8)])
def test_a_kernel_asks_for_all_of_its_weights(target, step, lanes, outer, span, segment, unroll, vecs, monkeypatch):
    monkeypatch.setenv("TVM_NUM_THREADS", "1")
    spec, w = spec_that_runs_here(target), replace(LAYER, in_channels=16, out_channels=3 * vecs * lanes)
    tile = Tile(step=step, lanes=lanes, cols=3, vecs=vecs, segment=segment, outer=outer, span=span, unroll=unroll, prefetch=True)
    kernel, asked = spec.library.conv2d(w, tile), []
    tvm_ffi.register_global_func("tvm_rsq.test.asked_for", lambda index: asked.append(int(index)), override=True)
    arguments = draw_arguments(w, np.random.default_rng(0), extreme=False)
    got = run_kernel(spec, w, arguments, replace(kernel, prim_func=recording(kernel.prim_func)))
    np.testing.assert_array_equal(got, expected(w, arguments))
    packed = kernel.pack_weight(arguments.weight)
    lines = {index * packed.itemsize // 64 for index in asked}
    assert max(lines) < -(-packed.nbytes // 64)
    # Not the first block, for which nobody could ask; a short last segment of a row asks for less.
    block = packed.nbytes // 3
    wanted = set(range(-(-block // 64), packed.nbytes // 64))
    assert lines >= wanted


@pytest.mark.parametrize("outer", ["rows", "channels"])
@pytest.mark.parametrize("target", ["x86-64-vnni", "haswell"])
def test_kernels_that_ask_give_the_same_integers(target, outer):
    spec = spec_that_runs_here(target)
    tile = next(c for c in spec.library.conv2d_space(LAYER) if isinstance(c, Tile))
    arguments = draw_arguments(LAYER, np.random.default_rng(0), extreme=False)
    for unroll in (1, 4):
        kernel = spec.library.conv2d(LAYER, replace(tile, outer=outer, unroll=unroll, prefetch=True))
        np.testing.assert_array_equal(run_kernel(spec, LAYER, arguments, kernel), expected(LAYER, arguments))


def test_the_untuned_choice_asks_where_blocks_follow_and_their_weights_are_read_again():
    library = parse_target("x86-64-vnni").library
    for w, asks in (
        (LAYER, True),
        (replace(LAYER, out_channels=16), False),  # one block
        (replace(LAYER, height=1, width=1, in_channels=640, kernel=(1, 1), padding=(0, 0, 0, 0)), False),  # one pixel reads each once
        (replace(LAYER, in_channels=4), False),  # a few lines of weights
        (replace(LAYER, in_channels=640, out_channels=3), False),  # one channel at a time: fewer bytes than lines
    ):
        tile = library.conv2d_space(w)[0]
        assert (tile.prefetch, "llvm.prefetch" in str(library.conv2d(w).prim_func)) == (asks, asks), w


def test_the_assembly_holds_the_instruction():
    spec = parse_target("x86-64-vnni")
    built = tvm.compile(tvm.IRModule({"main": spec.library.conv2d(LAYER).prim_func}), target=spec.tvm_target())
    assert "prefetcht1" in built.mod.inspect_source("asm")
