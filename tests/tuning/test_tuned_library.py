"""A record that somebody changed is refused in one line, where it is used."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tvm_rsq.errors import ConfigError
from tvm_rsq.targets.parse import parse_target
from tvm_rsq.targets.workload import Conv2DWorkload
from tvm_rsq.tuning.task import normalise
from tvm_rsq.tuning.tuned_library import TunedLibrary

LAYER = Conv2DWorkload(batch=1, height=8, width=8, in_channels=16, out_channels=32, kernel=(3, 3), padding=(1, 1, 1, 1))


def test_a_choice_of_a_record_that_no_kernel_can_follow_is_refused_in_a_line():
    library = parse_target("haswell").library
    broken = replace(library.conv2d_space(LAYER)[0], lanes=3)
    with pytest.raises(ConfigError, match="tune again") as refusal:
        TunedLibrary(library, {normalise(LAYER): broken}).conv2d(LAYER)
    assert "\n" not in str(refusal.value)


def test_a_choice_of_the_caller_keeps_its_own_error():
    library = parse_target("haswell").library
    broken = replace(library.conv2d_space(LAYER)[0], lanes=3)
    with pytest.raises(ValueError, match="conv2d_space"):
        TunedLibrary(library, {}).conv2d(LAYER, broken)
