from __future__ import annotations

import numpy as np
import pytest
from conv_reference import draw_arguments, expected, run_kernel
from hypothesis import given, settings
from hypothesis import strategies as st
from test_conv2d import TARGETS, epilogues, spec_that_runs_here

from tvm_rsq.targets.workload import Conv2DWorkload


@st.composite
def depthwise_workloads(draw) -> Conv2DWorkload:
    channels = draw(st.sampled_from([2, 3, 8, 16, 20, 32, 50]))
    kernel = draw(st.sampled_from([(3, 3), (3, 3), (5, 5), (1, 1), (7, 7), (2, 3), (4, 1)]))
    dilation = draw(st.sampled_from([(1, 1), (1, 1), (2, 2), (1, 2)]))
    least = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    return Conv2DWorkload(
        batch=draw(st.integers(1, 2)),
        height=least[0] + draw(st.integers(0, 5)),
        width=least[1] + draw(st.integers(0, 16)),
        in_channels=channels,
        out_channels=channels,
        groups=channels,
        kernel=kernel,
        stride=draw(st.sampled_from([(1, 1), (2, 2), (2, 1)])),
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
