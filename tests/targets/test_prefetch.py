"""Every line of the next block's weights is asked for while this block is in use; kernels that ask give the same integers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import tvm
from conv_reference import draw_arguments, expected, run_kernel
from emulated_x86 import spec_that_runs_here
from hypothesis import given
from hypothesis import strategies as st
from tvm import tirx

from tvm_rsq.targets.generic.prefetch import Prefetch
from tvm_rsq.targets.generic.tiles import Tile
from tvm_rsq.targets.parse import parse_target
from tvm_rsq.targets.workload import Conv2DWorkload, Epilogue

LAYER = Conv2DWorkload(
    batch=1, height=7, width=7, in_channels=64, out_channels=136, kernel=(3, 3), padding=(1, 1, 1, 1), input_zero_point=9,
    epilogue=Epilogue(per_channel=True, zero_point=100),
)  # fmt: skip


def asked_for(p: Prefetch, block: int) -> set[int]:
    """The lines, of all weights, that the tiles of `block` ask for."""
    starts = [int(p.start(tirx.const(block, "int32"), tirx.const(tile, "int32"))) for tile in range(p.tiles)]
    return {(start + i * 64) // 64 for start in starts for i in range(p.iterations * p.lines)}


@given(st.integers(1, 200), st.integers(2, 4), st.integers(1, 12), st.integers(1, 40))
def test_every_line_of_the_next_block_is_asked_for(lines, blocks, tiles, iterations):
    p = Prefetch(block_bytes=64 * lines, blocks=blocks, tiles=tiles, iterations=iterations)
    for block in range(blocks):
        following = min(block + 1, blocks - 1)
        assert asked_for(p, block) >= set(range(following * lines, (following + 1) * lines))


@given(st.integers(1, 200), st.integers(1, 12), st.integers(1, 40))
def test_hardly_more_is_asked_for_than_there_is(lines, tiles, iterations):
    p = Prefetch(block_bytes=64 * lines, blocks=2, tiles=tiles, iterations=iterations)
    assert len(asked_for(p, 0)) < lines + p.iterations * p.lines


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
        (replace(LAYER, height=1, width=1, kernel=(1, 1), padding=(0, 0, 0, 0)), False),  # one pixel reads every weight once
    ):
        tile = library.conv2d_space(w)[0]
        assert (tile.prefetch, "llvm.prefetch" in str(library.conv2d(w).prim_func)) == (asks, asks), w


def test_the_assembly_holds_the_instruction():
    spec = parse_target("x86-64-vnni")
    built = tvm.compile(tvm.IRModule({"main": spec.library.conv2d(LAYER).prim_func}), target=spec.tvm_target())
    assert "prefetcht1" in built.mod.inspect_source("asm")
