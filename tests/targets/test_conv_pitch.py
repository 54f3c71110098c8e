"""Convolutions that store into a part of a wider tensor: the part is what it would be alone, and every byte beside it is as it was."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from conv_reference import POISON, draw_arguments, expected, run_kernel
from exact_reference import spec_that_runs_here
from hypothesis import given, settings
from hypothesis import strategies as st

from tvm_rsq.targets.choice import to_knobs
from tvm_rsq.targets.parse import parse_target
from tvm_rsq.targets.workload import Conv2DWorkload, Epilogue

SAME = (1, 1, 1, 1)


def check(target: str, w: Conv2DWorkload, choice=None, *, extreme: bool = False, seed: int = 0) -> None:  # noqa: ANN001
    spec = spec_that_runs_here(target)
    a = draw_arguments(w, np.random.default_rng(seed), extreme=extreme)
    kernel = spec.library.conv2d(w, choice)
    wanted = np.full(w.out_shape, POISON, w.epilogue.out)
    wanted[..., w.out_offset : w.out_offset + w.out_channels] = expected(w, a)
    np.testing.assert_array_equal(run_kernel(spec, w, a, kernel), wanted, err_msg=kernel.name)


@st.composite
def parts(draw) -> Conv2DWorkload:
    groups = draw(st.sampled_from([1, 1, 3]))
    kernel = draw(st.sampled_from([(1, 1), (3, 3), (2, 3)]))
    w = Conv2DWorkload(
        batch=draw(st.integers(1, 2)), height=draw(st.integers(3, 9)), width=draw(st.integers(3, 18)),
        in_channels=groups * draw(st.sampled_from([1, 3, 8, 20])), out_channels=groups * draw(st.sampled_from([1, 3, 5, 8, 18, 33])),
        kernel=kernel, stride=draw(st.sampled_from([(1, 1), (2, 2)])), padding=draw(st.sampled_from([(0, 0, 0, 0), SAME])), groups=groups,
        epilogue=Epilogue(
            out=draw(st.sampled_from(["uint8", "uint8", "float32"])), per_channel=draw(st.booleans()), residual=draw(st.booleans()),
            zero_point=draw(st.integers(0, 255)),
        ),
    )  # fmt: skip
    before, behind = draw(st.sampled_from([0, 1, 3, 16, 64])), draw(st.sampled_from([0, 1, 5, 64]))
    return replace(w, out_offset=before, out_pitch=before + w.out_channels + behind)


@pytest.mark.parametrize("target", ["llvm", "x86-64-vnni"])
@settings(max_examples=10, deadline=None, derandomize=True)
@given(w=parts(), extreme=st.booleans())
def test_nothing_but_the_part_is_written(target, w, extreme):
    check(target, w, extreme=extreme)


# out_channels that do not divide into vectors, so that the last ones overlap; rows that do not divide into tiles.
SHAPES = {
    "direct": dict(height=5, width=13, in_channels=8, out_channels=21, kernel=(1, 3)),
    "winograd": dict(height=6, width=9, in_channels=8, out_channels=19, kernel=(3, 3), padding=SAME),
    "depthwise": dict(height=5, width=11, in_channels=40, out_channels=40, kernel=(3, 3), padding=SAME, groups=40),
}


@pytest.mark.parametrize(("shape", "requantize"), [*((shape, "float") for shape in SHAPES), ("depthwise", "shift")])
@pytest.mark.parametrize("target", ["haswell", "x86-64"])
def test_every_algorithm(target, shape, requantize):
    e = Epilogue(requantize=requantize, per_channel=True, zero_point=0 if requantize == "shift" else 9)
    channels = SHAPES[shape]["out_channels"]
    w = Conv2DWorkload(batch=2, **SHAPES[shape], epilogue=e, out_pitch=channels + 10, out_offset=7)
    # One choice of each algorithm: WinogradTile and DepthwiseTile name theirs, Tile has none.
    kinds = {(type(c), to_knobs(c).get("m"), to_knobs(c).get("method")): c for c in parse_target(target).library.conv2d_space(w)}
    for choice in kinds.values():
        check(target, w, choice)


def test_a_residual_keeps_its_own_shape():
    e = Epilogue(residual=True, shared_residual=True, zero_point=3)
    w = Conv2DWorkload(batch=1, height=4, width=7, in_channels=8, out_channels=12, kernel=(1, 1), epilogue=e, out_pitch=30, out_offset=12)
    check("llvm", w)


@pytest.mark.parametrize(("pitch", "offset"), [(8, 0), (12, 1), (0, 1), (20, -1)])
def test_a_part_beyond_the_output_is_refused(pitch, offset):
    w = Conv2DWorkload(batch=1, height=4, width=4, in_channels=4, out_channels=12, kernel=(1, 1), out_pitch=pitch, out_offset=offset)
    with pytest.raises(ValueError, match=f"12 channels at out_offset {offset}"):
        parse_target("llvm").library.conv2d(w)
