from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from conv_reference import draw_arguments, expected, run_kernel
from emulated_x86 import spec_that_runs_here
from hypothesis import given, settings
from hypothesis import strategies as st

from tvm_rsq.targets.generic.joined_groups import join_weight, joined_groups
from tvm_rsq.targets.workload import Conv2DWorkload, Epilogue


def workload(groups: int, ins: int, outs: int, **fields) -> Conv2DWorkload:
    common = {"batch": 1, "height": 5, "width": 9, "kernel": (3, 3), "padding": (1, 1, 1, 1), "input_zero_point": 9}
    return Conv2DWorkload(**common, in_channels=groups * ins, out_channels=groups * outs, groups=groups, **fields)


@pytest.mark.parametrize("target", ["haswell", "x86-64", "x86-64-vnni"])
@settings(max_examples=8, deadline=None, derandomize=True)
@given(
    groups=st.sampled_from([1, 2, 3, 4, 7, 12]),
    ins=st.sampled_from([1, 2, 3, 5, 17]),
    outs=st.sampled_from([1, 2, 3]),
    out=st.sampled_from(["uint8", "float32"]),
    extreme=st.booleans(),
)
def test_equal_to_the_reference_bit_for_bit(target, groups, ins, outs, out, extreme):
    w = workload(groups, ins, outs, epilogue=Epilogue(out=out, per_channel=True, zero_point=100 if out == "uint8" else 0))
    a = draw_arguments(w, np.random.default_rng(groups), extreme=extreme)
    np.testing.assert_array_equal(run_kernel(spec_that_runs_here(target), w, a), expected(w, a))


@pytest.mark.parametrize(("groups", "ins", "outs", "found"), [(12, 2, 2, 6), (12, 1, 2, 6), (9, 2, 2, 3), (64, 3, 1, 16), (5, 2, 3, 1)])
def test_joins_the_least_number_of_groups_that_fills_a_vector(groups, ins, outs, found):
    w = replace(workload(groups, ins, outs), accumulate16=1)
    assert joined_groups(w) == replace(w, groups=found, accumulate16=0)


@pytest.mark.parametrize(
    "w",
    [
        workload(1, 16, 3),  # one group
        workload(6, 4, 4),  # a vector is filled
        workload(4, 16, 2),  # runs of their own
        workload(11, 2, 2),  # a prime number of groups, too many to join
        workload(6, 1, 1),  # depthwise
        workload(6, 2, 2, in_dtype="float32"),
    ],
)
def test_leaves_what_gains_nothing(w):
    assert joined_groups(w) is None


def test_weights_lie_on_the_diagonal():
    weight = np.arange(1, 9, dtype="int8").reshape(4, 1, 1, 2)
    joined = [[1, 2, 0, 0], [3, 4, 0, 0], [0, 0, 5, 6], [0, 0, 7, 8]]
    np.testing.assert_array_equal(join_weight(weight, 2, 2)[:, 0, 0], joined)


def test_a_choice_of_the_space_makes_the_kernel():
    library = spec_that_runs_here("haswell").library
    w = workload(4, 2, 2, epilogue=Epilogue(per_channel=True, zero_point=3))
    a = draw_arguments(w, np.random.default_rng(0), extreme=False)
    for choice in library.conv2d_space(w)[:2]:
        np.testing.assert_array_equal(run_kernel(spec_that_runs_here("haswell"), w, a, library.conv2d(w, choice)), expected(w, a))
