from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import tvm
from conv_reference import carried, draw_arguments, expected, run_kernel
from hypothesis import given, settings
from hypothesis import strategies as st
from test_conv2d import TARGETS, epilogues, spec_that_runs_here

from tvm_rsq.targets.generic.depthwise import DepthwiseTile
from tvm_rsq.targets.generic.row_groups import RowGroups
from tvm_rsq.targets.parse import parse_target
from tvm_rsq.targets.workload import Conv2DWorkload, Epilogue
from tvm_rsq.targets.x86_64.depthwise_groups import depthwise_groups


@st.composite
def depthwise_workloads(draw, *, least_channels: int = 2, dilated: bool = True) -> Conv2DWorkload:
    channels = draw(st.sampled_from([c for c in (2, 3, 8, 16, 20, 32, 50, 72) if c >= least_channels]))
    kernel = draw(st.sampled_from([(3, 3), (3, 3), (5, 5), (1, 1), (7, 7), (2, 3), (4, 1)]))
    dilation = draw(st.sampled_from([(1, 1), (1, 1), (1, 2), *([(2, 2)] if dilated else [])]))
    least = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    return Conv2DWorkload(
        batch=draw(st.integers(1, 2)),
        height=least[0] + draw(st.integers(0, 5)),
        width=least[1] + draw(st.integers(0, 16)),
        in_channels=channels,
        out_channels=channels,
        groups=channels,
        kernel=kernel,
        stride=draw(st.sampled_from([(1, 1), (1, 1), (2, 2), (2, 1), (3, 3)])),
        padding=draw(st.sampled_from([(0, 0, 0, 0), (1, 1, 1, 1), (0, 2, 1, 0)])),
        dilation=dilation,
        input_zero_point=draw(st.sampled_from([0, 7, 255])),
        epilogue=draw(epilogues()),
    )


@pytest.mark.parametrize("target", TARGETS)
@settings(max_examples=10, deadline=None, derandomize=True)
@given(w=depthwise_workloads(), extreme=st.booleans(), seed=st.integers(0, 2**16))
def test_equal_to_the_reference_bit_for_bit(target, w, extreme, seed):
    a = draw_arguments(w, np.random.default_rng(seed), extreme=extreme)
    np.testing.assert_array_equal(run_kernel(spec_that_runs_here(target), w, a), expected(w, a))


@pytest.mark.parametrize(("target", "method"), [("cortex-a76", "quads"), ("cortex-a76", "taps"), ("cortex-a72", "taps")])
@settings(max_examples=12, deadline=None, derandomize=True)
@given(data=st.data(), extreme=st.booleans())
def test_every_tile_of_aarch64_computes_the_same(target, method, data, extreme):
    # LLVM takes seconds for every 7x7 kernel whose taps are emulated; the kernel that is chosen for one is tested above
    w = data.draw(depthwise_workloads(least_channels=16, dilated=method == "taps").filter(lambda w: w.kernel != (7, 7)))
    strip, segment = data.draw(st.integers(1, w.out_height)), data.draw(st.integers(1, w.out_width))
    tile = DepthwiseTile(lanes=16, cols=data.draw(st.integers(1, min(segment, 5))), method=method)
    if method == "quads":
        tile = replace(tile, strip=strip, segment=segment, blocks=data.draw(st.integers(1, -(-w.in_channels // 16))))
    spec, made = spec_that_runs_here(target), carried(w, "int8")
    a = draw_arguments(w, np.random.default_rng(0), extreme=extreme)
    np.testing.assert_array_equal(run_kernel(spec, made, a, spec.library.conv2d(made, tile)), expected(w, a))


@pytest.mark.parametrize("promise", [32, 64])
@pytest.mark.parametrize("extreme", [False, True])
def test_taps_that_may_be_summed_in_int16(promise, extreme):
    w = Conv2DWorkload(
        batch=1, height=6, width=7, in_channels=24, out_channels=24, groups=24, kernel=(3, 3), accumulate16=promise,
        epilogue=Epilogue(zero_point=3),
    )  # fmt: skip
    spec, made, most = spec_that_runs_here("cortex-a72"), carried(w, "int8"), 255 // (promise // 8)
    a = draw_arguments(w, np.random.default_rng(0), extreme=extreme)
    weight = np.full(a.weight.shape, -most) if extreme else np.random.default_rng(1).integers(-most, most + 1, a.weight.shape)
    a = replace(a, weight=weight.astype("int8"), data=np.zeros_like(a.data) if extreme else a.data)
    kernel = spec.library.conv2d(made)
    assert kernel.name.startswith(f"depthwise_smlal{promise // 8}")
    np.testing.assert_array_equal(run_kernel(spec, made, a, kernel), expected(w, a))


@pytest.mark.parametrize(
    ("target", "lanes", "method"),
    [
        ("haswell", 32, "pairs"), ("haswell", 16, "pairs"), ("x86-64", 16, "pairs"), ("skylake-avx512", 64, "pairs"),
        ("x86-64-vnni", 64, "pairs"), ("alderlake", 32, "pairs"), ("x86-64-vnni", 64, "quads"), ("x86-64-vnni", 16, "quads"),
        ("alderlake", 32, "quads"),
    ],
)  # fmt: skip
@settings(max_examples=10, deadline=None, derandomize=True)
@given(data=st.data(), extreme=st.booleans())
def test_every_tile_of_groups_computes_the_same(target, lanes, method, data, extreme):
    w = data.draw(depthwise_workloads(least_channels=lanes, dilated=False).filter(lambda w: w.out_width >= 2))
    if data.draw(st.booleans()):
        requantize = data.draw(st.sampled_from(["shift", "fixed_point"]))
        w = replace(w, epilogue=Epilogue(requantize=requantize, per_channel=w.epilogue.per_channel, qmin=3, qmax=200))
    segment = data.draw(st.integers(2, w.out_width))
    strips = sorted({1, min(2, w.out_height), w.out_height}, reverse=True)
    tile = DepthwiseTile(
        method=method, lanes=lanes, cols=data.draw(st.sampled_from([c for c in (2, 4, 6) if c <= segment])),
        strip=data.draw(st.sampled_from(strips)), segment=segment, blocks=data.draw(st.integers(1, -(-w.in_channels // lanes))),
    )  # fmt: skip
    spec = spec_that_runs_here(target)
    a = draw_arguments(w, np.random.default_rng(0), extreme=extreme)
    step = spec.library.word_step if method == "pairs" else spec.library.integer_steps[0]
    np.testing.assert_array_equal(run_kernel(spec, w, a, depthwise_groups(w, spec.form, tile, step)), expected(w, a))


PLAIN = Conv2DWorkload(
    batch=1, height=9, width=9, in_channels=72, out_channels=72, groups=72, kernel=(3, 3), padding=(1, 1, 1, 1),
    epilogue=Epilogue(zero_point=3, per_channel=True, bounded=True),
)  # fmt: skip


@pytest.mark.parametrize("target", ["haswell", "x86-64", "x86-64-vnni", "alderlake"])
def test_the_whole_space_computes_the_same(target):
    spec = spec_that_runs_here(target)
    a = draw_arguments(PLAIN, np.random.default_rng(0), extreme=False)
    space = spec.library.conv2d_space(PLAIN)
    assert len(space) > 5
    assert space[-1].method == "widen"
    assert {choice.method for choice in space[:-1]} <= {"pairs", "quads"}
    assert space[0].method == ("quads" if spec.library.has_vnni else "pairs")
    assert spec.library.conv2d(PLAIN).name == spec.library.conv2d(PLAIN, space[0]).name
    for choice in space:
        np.testing.assert_array_equal(run_kernel(spec, PLAIN, a, spec.library.conv2d(PLAIN, choice)), expected(PLAIN, a))


def test_weights_are_packed_as_pairs_of_rows():
    tile = DepthwiseTile(method="pairs", lanes=16, cols=2, strip=2, segment=9)
    weight = np.arange(72 * 9).astype("int8").reshape(72, 3, 3, 1)
    kernel = depthwise_groups(PLAIN, "fma", tile, parse_target("haswell").library.word_step)
    packed = kernel.pack_weight(weight).reshape(5, 4, 2, 2, 3, 4, 2)
    # Block 1, vector 2 holds channels 16 + 8 ... 16 + 11; the last block moves back to channel 56.
    upper, lower = weight[16 + 9, :, :, 0], np.zeros(3)
    np.testing.assert_array_equal(packed[1, 2, 0, :, :, 1].transpose(0, 2, 1).reshape(4, 3), [*upper, lower])
    np.testing.assert_array_equal(packed[1, 2, 1, :, :, 1].transpose(0, 2, 1).reshape(4, 3), [lower, *upper])
    np.testing.assert_array_equal(packed[4, 0, 0, 0, 1, 0], weight[56, :2, 1, 0])
    assert RowGroups.of(PLAIN, tile).staged_planes == 2


def test_weights_are_packed_as_quads_of_rows():
    tile, library = DepthwiseTile(method="quads", lanes=64, cols=2, strip=2, segment=9), parse_target("x86-64-vnni").library
    weight = np.random.default_rng(0).integers(-127, 128, (72, 5, 3, 1)).astype("int8")
    w = replace(PLAIN, kernel=(5, 3), padding=(2, 1, 2, 1))
    packed = depthwise_groups(w, "fma", tile, library.integer_steps[0]).pack_weight(weight).reshape(2, 4, 2, 2, 3, 16, 4)
    # Block 0, vector 2, lane 5: channel 16 + 8 + 1. Five rows and one before them take two planes of four.
    filled = np.zeros((2, 8, 3), "int8")
    filled[0, :5] = filled[1, 1:6] = weight[25, :, :, 0]
    np.testing.assert_array_equal(packed[0, 2, :, :, :, 5].transpose(0, 1, 3, 2).reshape(2, 8, 3), filled)
    assert packed.dtype == np.int8
    groups = RowGroups.of(w, tile)
    # Output rows 0 and 1 begin at the same plane, and read it and the one four rows on.
    assert (groups.planes, groups.plane_step, groups.staged_planes) == (2, 2, 3)


@pytest.mark.parametrize("lacking", ["avx512vl", "avx512bw", "avx512vnni"])
def test_the_default_fits_a_cpu_with_a_part_of_avx512(lacking):
    library = parse_target(f"llvm -mcpu=cascadelake -mattr=-{lacking}").library
    w = replace(PLAIN, in_channels=64, out_channels=64, groups=64)
    assert library.conv2d(w).name == library.conv2d(w, library.conv2d_space(w)[0]).name
    assert library.integer_bytes == 4 * library.word_step.lanes


@pytest.mark.parametrize(
    "change",
    [
        {"method": "widen"}, {"lanes": 24}, {"lanes": 64}, {"cols": 3}, {"cols": 0}, {"strip": 10}, {"strip": 0}, {"segment": 10},
        {"segment": 0}, {"blocks": 6},
    ],
)  # fmt: skip
def test_a_tile_that_does_not_fit_is_refused(change):
    tile = replace(DepthwiseTile(method="pairs", lanes=16, cols=2, strip=2, segment=9), **change)
    with pytest.raises(ValueError, match="take one of conv2d_space"):
        depthwise_groups(PLAIN, "fma", tile, parse_target("haswell").library.word_step)


def test_a_step_of_another_depth_and_rows_that_are_apart_are_refused():
    library, tile = parse_target("x86-64-vnni").library, DepthwiseTile(method="quads", lanes=16, cols=2, segment=5)
    with pytest.raises(ValueError, match="sums 2 products"):
        depthwise_groups(PLAIN, "fma", tile, library.word_step)
    with pytest.raises(ValueError, match=r"dilation is \(2, 1\)"):
        depthwise_groups(replace(PLAIN, dilation=(2, 1)), "fma", tile, library.integer_steps[0])


@pytest.mark.parametrize("change", [{"lanes": 3}, {"lanes": 0}, {"lanes": 128}, {"cols": 0}, {"cols": 10}, {"method": "rows"}])
def test_a_plain_tile_that_does_not_fit_is_refused(change):
    library = parse_target("aarch64").library
    workload = carried(PLAIN, library.carrier)
    with pytest.raises(ValueError, match="take one of conv2d_space"):
        library.conv2d(workload, replace(library.conv2d_space(workload)[0], **change))


@pytest.mark.parametrize(("target", "method"), [("aarch64", "pairs"), ("aarch64", "quads"), ("haswell", "quads")])
def test_groups_are_refused_where_nothing_multiplies_them(target, method):
    library = parse_target(target).library
    with pytest.raises(ValueError, match="expected method='widen'"):
        library.conv2d(carried(PLAIN, library.carrier), DepthwiseTile(method=method, lanes=16, cols=2, segment=9))


@pytest.mark.parametrize(("target", "instruction"), [("sapphirerapids", "vpdpbusd"), ("skylake-avx512", "vpmaddwd"), ("x86-64", "pmaddwd")])
def test_uses_the_instruction_that_the_cpu_has(target, instruction):
    spec = parse_target(target)
    module = tvm.IRModule({"main": spec.library.conv2d(PLAIN).prim_func})
    assembly = tvm.compile(module, target=spec.tvm_target()).mod.inspect_source("asm")
    assert instruction in assembly
    assert "fmaf" not in assembly
