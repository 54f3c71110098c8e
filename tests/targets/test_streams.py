"""Weights in streams: where they lie, what is asked for ahead, and kernels that read them so."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from conv_reference import draw_arguments, expected, run_kernel
from emulated_x86 import spec_that_runs_here

from tvm_rsq.targets.generic.streams import Streams, waits_for_memory
from tvm_rsq.targets.workload import Conv2DWorkload, Epilogue


def test_pieces_of_a_run_are_a_stream_apart():
    streams = Streams(count=3, runs=50, size=4, value_bytes=64)
    taps = np.arange(2 * (50 * 3 + 2) * 4).reshape(2, -1, 4)  # two pieces are left over
    arranged = streams.arranged(taps).reshape(2, -1)
    for tap, run in ((0, 0), (1, 0), (1, 17), (1, 49)):
        found = [arranged[tap, start : start + 4] for start in streams.starts(0, run)]
        np.testing.assert_array_equal(found, taps[tap, run * 3 : (run + 1) * 3])
    np.testing.assert_array_equal(arranged[:, -8:], taps[:, -2:].reshape(2, -1))


@pytest.mark.parametrize(
    ("count", "runs", "pays"), [(8, 100, True), (9, 100, False), (1, 100, True), (8, 8, False), (8, 9, True), (8, 0, False)]
)
def test_short_or_many_streams_are_none(count, runs, pays):
    assert Streams(count=count, runs=runs, size=64, value_bytes=1).pay == pays


DENSE = Conv2DWorkload(
    batch=1, height=1, width=1, in_channels=1030, out_channels=1100, kernel=(1, 1), input_zero_point=5, epilogue=Epilogue(per_channel=True)
)


@pytest.mark.parametrize("target", ["llvm", "x86-64-vnni", "haswell", "x86-64"])
@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"in_channels": 150, "out_channels": 800, "kernel": (3, 3), "height": 3, "width": 3},
        {"in_dtype": "float32", "input_zero_point": 0, "epilogue": Epilogue(out="float32")},
    ],
    ids=["dense", "taps", "float32"],
)
def test_any_choice_of_a_layer_from_memory_equals_the_reference(target, changed):
    spec, w = spec_that_runs_here(target), replace(DENSE, **changed)
    assert waits_for_memory(w)
    a = draw_arguments(w, np.random.default_rng(0), extreme=False)
    for choice in spec.library.conv2d_space(w)[:4]:
        found = run_kernel(spec, w, a, spec.library.conv2d(w, choice))
        if w.in_dtype == "float32":
            np.testing.assert_allclose(found, expected(w, a), rtol=1e-4, atol=1e-3)
        else:
            np.testing.assert_array_equal(found, expected(w, a))


def test_streams_are_asked_for_ahead_and_only_where_weights_come_from_memory():
    library = spec_that_runs_here("llvm").library
    for w, asks in ((DENSE, True), (replace(DENSE, out_channels=1000), False), (replace(DENSE, batch=2), False)):
        script = library.conv2d(w).prim_func.script()
        assert ("llvm.prefetch" in script) == asks, w
