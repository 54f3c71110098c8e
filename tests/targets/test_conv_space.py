"""Every choice of `conv2d_space` gives the same integers; the steps behind the choices, and when each may be taken."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
import tvm
from conv_reference import carried, draw_arguments, expected, run_kernel
from hypothesis import given, settings
from hypothesis import strategies as st
from test_conv2d import spec_that_runs_here, workloads

from tvm_rsq.targets.choice import from_knobs, to_knobs
from tvm_rsq.targets.generic.conv2d import conv2d
from tvm_rsq.targets.generic.tiles import Tile
from tvm_rsq.targets.parse import parse_target
from tvm_rsq.targets.spec import TargetSpec
from tvm_rsq.targets.workload import Conv2DWorkload, Epilogue, summed_products

LAYER = Conv2DWorkload(
    batch=1, height=5, width=5, in_channels=16, out_channels=24, kernel=(3, 3), padding=(1, 1, 1, 1), input_zero_point=9,
    epilogue=Epilogue(per_channel=True, zero_point=100),
)  # fmt: skip
TINY = replace(LAYER, height=3, width=3, in_channels=4)
SSSE3 = "x86-64-v2"


def direct(spec: TargetSpec, w: Conv2DWorkload, step: str) -> Tile:
    """The first of the space that is made of `step`."""
    return next(c for c in spec.library.conv2d_space(w) if isinstance(c, Tile) and c.step == step)


def short_weights(w: Conv2DWorkload, rng: np.random.Generator, *, extreme: bool) -> np.ndarray:
    """Weights that keep the promise of `w.accumulate16`; extreme: up to the last unit of it."""
    d, run = w.accumulate16, w.kernel[0] * w.kernel[1] * w.in_channels // w.groups
    # (OC, blocks, pairs of positions 0, 1 and 2, 3, values that are added up)
    shape = (w.out_channels, run // (4 * d), 2, 2 * d)
    if extreme:
        sign = rng.choice([-1, 1], shape[:3])
        values = np.zeros(shape, "int64")
        values[..., 0], values[..., 1] = 127 * sign, sign
        values = rng.permuted(values, axis=-1)
    else:
        values = rng.integers(-127, 128, shape)
        for sign in (1, -1):
            part = np.maximum(sign * values, 0)
            values = np.where(sign * values > 0, sign * (part * 128 // np.maximum(part.sum(-1, keepdims=True), 128)), values)
    ordered = values.reshape(w.out_channels, -1, 2, d, 2).transpose(0, 1, 3, 2, 4)
    return ordered.reshape(w.out_channels, *w.kernel, w.in_channels // w.groups).astype("int8")


@pytest.mark.parametrize("target", ["llvm", SSSE3, "x86-64", "skylake-avx512", "x86-64-vnni", "alderlake"])
@settings(max_examples=12, deadline=None, derandomize=True)
@given(w=workloads(), accumulate16=st.sampled_from([0, 0, 1, 2, 4]), extreme=st.booleans(), seed=st.integers(0, 2**16))
def test_any_choice_equals_the_reference_bit_for_bit(target, w, accumulate16, extreme, seed):
    if accumulate16:
        ins = max(1, w.in_channels // w.groups // 8)
        w = replace(w, accumulate16=accumulate16, in_channels=4 * accumulate16 * ins * w.groups)
    spec, rng = spec_that_runs_here(target), np.random.default_rng(seed)
    a = draw_arguments(w, rng, extreme=extreme)
    if accumulate16:
        a = replace(a, weight=short_weights(w, rng, extreme=extreme))
    space = spec.library.conv2d_space(w)
    choice = space[rng.integers(len(space))]
    np.testing.assert_array_equal(run_kernel(spec, w, a, spec.library.conv2d(w, choice)), expected(w, a))


@pytest.mark.parametrize("target", ["llvm", "x86-64", "x86-64-vnni", "alderlake", "aarch64"])
def test_the_space_holds_different_choices_the_untuned_first(target):
    library = parse_target(target).library
    w = Conv2DWorkload(batch=1, height=14, width=14, in_channels=64, out_channels=72, kernel=(3, 3), padding=(1, 1, 1, 1))
    w = carried(w, library.carrier)
    for layer in (w, replace(w, accumulate16=4), replace(w, groups=4), replace(w, kernel=(1, 1), padding=(0, 0, 0, 0), stride=(2, 2))):
        space = library.conv2d_space(layer)
        assert 20 <= len(space) == len(set(space)) <= 200
        assert library.conv2d(layer, space[0]).name == library.conv2d(layer).name
        assert [from_knobs(to_knobs(choice)) for choice in space] == list(space)


@pytest.mark.parametrize("extreme", [False, True])
@pytest.mark.parametrize(("target", "lanes"), [("haswell", 8), (SSSE3, 4)])
@pytest.mark.parametrize("parts", [1, 2, 4])
def test_int16_sums_are_exact_at_the_edge_of_the_promise(target, lanes, parts, extreme):
    spec, rng, w = spec_that_runs_here(target), np.random.default_rng(parts), replace(LAYER, accumulate16=parts)
    a = replace(draw_arguments(w, rng, extreme=True), weight=short_weights(w, rng, extreme=extreme))
    if extreme:
        a.data[:] = 255
    choice = direct(spec, w, f"maddubs{32 * lanes}x{parts}")
    assert choice.lanes == lanes
    np.testing.assert_array_equal(run_kernel(spec, w, a, spec.library.conv2d(w, choice)), expected(w, a))


def test_a_broken_promise_shows():
    w = replace(LAYER, accumulate16=4)
    a = draw_arguments(w, np.random.default_rng(0), extreme=True)
    spec = spec_that_runs_here("haswell")
    assert (run_kernel(spec, w, a, spec.library.conv2d(w, direct(spec, w, "maddubs256x4"))) != expected(w, a)).any()


@pytest.mark.parametrize(
    ("target", "in_channels", "step"),
    [
        ("haswell", 16, "maddubs256x4"),
        ("haswell", 24, "maddubs256x2"),
        ("haswell", 20, "maddubs256x1"),
        ("haswell", 18, "madd256"),
        ("skylake-avx512", 16, "maddubs512x4"),
        (SSSE3, 16, "maddubs128x4"),
        ("x86-64", 16, "madd128"),
        ("x86-64-vnni", 16, "vnni512"),
        ("alderlake", 16, "vnni256"),
        ("aarch64", 16, "smlal16"),
    ],
)
def test_the_promise_is_used_where_it_can_be(target, in_channels, step):
    w = replace(LAYER, in_channels=in_channels, out_channels=64, stride=(2, 2), accumulate16=4)
    assert parse_target(target).library.conv2d_space(w)[0].step == step


@pytest.mark.parametrize(("promise", "step"), [(0, "smlal16"), (32, "smlal32"), (64, "smlal64"), (4, "smlal16")])
@pytest.mark.parametrize("extreme", [False, True])
def test_sums_of_neon_are_exact_at_the_edge_of_the_promise(promise, step, extreme):
    spec = spec_that_runs_here("cortex-a72")
    w = carried(replace(LAYER, in_channels=64, out_channels=16, kernel=(1, 1), padding=(0,) * 4, accumulate16=promise), "int8")
    a = draw_arguments(w, np.random.default_rng(promise), extreme=True)
    most = 255 // summed_products(promise) if promise >= 32 else 127
    size = np.full(a.weight.shape, most) if extreme else np.random.default_rng(1).integers(0, most + 1, a.weight.shape)
    a = replace(a, weight=(size * (-1 if extreme else np.sign(a.weight))).astype("int8"))
    if extreme:
        a.data[:] = 0  # stored as -128
    assert spec.library.conv2d_space(w)[0].step == step
    np.testing.assert_array_equal(run_kernel(spec, w, a, spec.library.conv2d(w)), expected(w, a))


@pytest.mark.parametrize(
    ("target", "algorithm"), [("haswell", "winograd"), ("x86-64-vnni", "direct"), ("aarch64", "winograd"), ("cortex-a76", "direct")]
)
def test_winograd_is_the_untuned_choice_where_it_was_measured(target, algorithm):
    w = replace(LAYER, height=28, width=28, in_channels=64, out_channels=64)
    library = parse_target(target).library
    assert to_knobs(library.conv2d_space(w)[0])["algorithm"] == algorithm
    for other in (replace(w, stride=(2, 2)), replace(w, kernel=(1, 1)), replace(w, groups=2), replace(w, height=1, padding=(1, 1, 1, 1))):
        assert to_knobs(library.conv2d_space(other)[0])["algorithm"] == "direct"


def test_a_choice_that_does_not_fit_is_refused():
    spec = parse_target("haswell")
    library, tile = spec.library, direct(spec, TINY, "madd256")
    for wrong, message in ((replace(tile, step="vnni512"), "'vnni512', expected one of madd256"), (replace(tile, cols=10), "larger than")):
        with pytest.raises(ValueError, match=message):
            library.conv2d(TINY, wrong)
    with pytest.raises(ValueError, match="expected one of"):
        library.conv2d(TINY, replace(tile, step="maddubs256x1"))


BROKEN = [{"lanes": 2}, {"lanes": 6}, {"lanes": 0}, {"lanes": 16}, {"lanes": "8"}, {"cols": 0}, {"vecs": 0}, {"vecs": -1}, {"outer": "all"}]


@pytest.mark.parametrize(
    ("algorithm", "change"),
    [("direct", change) for change in (*BROKEN, {"segment": 0}, {"unroll": 0}, {"span": "plane"}, {"prefetch": 1})]
    + [("winograd", change) for change in (*BROKEN, {"tiles": 0}, {"m": 3}, {"step": "madd512"}, {"weights": "int8"})],
)
def test_a_choice_that_no_kernel_can_follow_is_refused_in_a_line(algorithm, change):
    library = parse_target("haswell").library
    w = replace(LAYER, height=9, width=9, out_channels=32)
    choice = next(c for c in library.conv2d_space(w) if to_knobs(c)["algorithm"] == algorithm)
    with pytest.raises(ValueError, match="take one of conv2d_space") as refusal:
        library.conv2d(w, replace(choice, **change))
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("cols", [1, 3])
def test_pixels_that_are_summed_together_are_not_parted(cols):
    w = carried(replace(LAYER, kernel=(1, 1), padding=(0,) * 4), "int8")
    spec = parse_target("neoverse-n2")
    with pytest.raises(ValueError, match=f"cols is {cols}, expected a multiple of 2: smmla sums so many pixels together"):
        spec.library.conv2d(w, replace(direct(spec, w, "smmla"), cols=cols))


def test_a_template_takes_tiles_of_its_step_only():
    library = parse_target("haswell").library
    step = library.integer_steps[0]
    with pytest.raises(ValueError, match="step is 'madd256_int8', expected madd256"):
        conv2d(LAYER, step, library.form, replace(direct(parse_target("haswell"), LAYER, step.name), step="madd256_int8"))


@pytest.mark.parametrize(
    ("target", "tile"),
    [
        ("sapphirerapids", dict(step="vnni512", lanes=16, cols=6, vecs=4)),
        ("znver4", dict(step="vnni512", lanes=16, cols=14, vecs=2)),
        ("alderlake", dict(step="vnni256", lanes=8, cols=6, vecs=2)),
        ("haswell", dict(step="madd256", lanes=8, cols=5, vecs=2)),
    ],
)
@pytest.mark.parametrize("span", ["row", "image"])
def test_the_inner_loop_does_not_touch_the_stack(target, tile, span):
    w = replace(LAYER, height=14, width=14, in_channels=128, out_channels=64)
    spec = parse_target(target)
    kernel = spec.library.conv2d(w, Tile(**tile, segment=2, outer="rows", span=span))
    assembly = tvm.compile(tvm.IRModule({"main": kernel.prim_func}), target=spec.tvm_target()).mod.inspect_source("asm")
    loops = inner_loops(assembly, r"vpdpbusd|vpmaddwd")
    assert loops
    # The loop stores nothing, so whatever it stores is a spill; %rbp alone may be a pointer like any other register.
    assert not [line for loop in loops for line in loop if "(%rsp)" in line or re.search(r"mov\w*\s.*\)$", line)]
    if target == "alderlake":
        assert "{vex}" in next(line for line in loops[0] if "vpdpbusd" in line)


@pytest.mark.parametrize("target", ["sapphirerapids", "haswell", "aarch64"])
def test_the_sums_do_not_come_from_the_pool(target):
    spec, w = parse_target(target), replace(LAYER, kernel=(1, 1), padding=(0, 0, 0, 0), in_channels=32, out_channels=96, accumulate16=4)
    w = carried(w, spec.library.carrier)
    assembly = tvm.compile(tvm.IRModule({"main": spec.library.conv2d(w).prim_func}), target=spec.tvm_target()).mod.inspect_source("asm")
    assert not re.search(r"AllocWorkspace\S*@GOT|got:__TVMBackendAllocWorkspace", assembly)


def inner_loops(assembly: str, instruction: str) -> list[list[str]]:
    """The bodies of the innermost loops that hold `instruction`."""
    lines = assembly.splitlines()
    labels = {line[:-1]: i for i, line in enumerate(lines) if re.fullmatch(r"\.LBB\w+:", line)}
    loops = []
    for i, line in enumerate(lines):
        jump = re.match(r"\s+j\w+\s+(\.LBB\w+)", line)
        start = labels.get(jump.group(1), i) if jump else i
        body = lines[start + 1 : i]
        if start < i and re.search(instruction, "\n".join(body)) and not any(re.match(r"\.LBB", b) for b in body):
            loops.append(body)
    return loops
