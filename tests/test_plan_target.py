"""A plan decided for one target and compiled for another: exact, and said."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
import pytest

from tests import small_network
from tvm_rsq.compiler import compile_quantized
from tvm_rsq.plan_target import note_of_another_target
from tvm_rsq.targets.parse import parse_target
from tvm_rsq.targets.spec import host_supports

OTHER = "llvm -mtriple=x86_64-linux-gnu -mcpu=nehalem"
HASWELL, VNNI = "llvm -mtriple=x86_64-linux-gnu -mcpu=haswell", "x86-64-vnni"


def decided_for(target: str | None, **changes):
    """The small network's plan as if it had been decided for `target`; its first layer changed."""
    plan = small_network.quantized().plan
    layers = (replace(plan.layers[0], **changes), *plan.layers[1:])
    return replace(plan, layers=layers, provenance={**plan.provenance, **({"target": target} if target else {})})


def test_the_note_names_both_targets_and_what_was_given_up():
    plan = decided_for(HASWELL, requantize="shift", accumulate16=2)
    note = note_of_another_target(plan, parse_target(VNNI))
    assert note.startswith(f"the plan was decided for {HASWELL} and is compiled for {VNNI}: what it gave up (")
    assert "1 x shift" in note and "1 x accumulate16" in note and "may buy nothing there; quantize for" in note and "\n" not in note


@pytest.mark.parametrize(
    ("decided", "compiled"),
    [
        (None, VNNI), (VNNI, VNNI), ("llvm", "llvm -num-cores=1"), (HASWELL, "llvm -mcpu=haswell"),
        (HASWELL, {"kind": "llvm", "mcpu": "haswell", "mtriple": "x86_64-linux-gnu"}),
    ],
)  # fmt: skip
def test_one_machine_under_two_names_is_one(decided, compiled):
    assert note_of_another_target(decided_for(decided, requantize="shift"), parse_target(compiled)) is None


@pytest.mark.parametrize("decided", [HASWELL, "a machine that was made up"])
def test_such_a_build_is_the_same_and_says_so(decided, caplog):
    quantized = replace(small_network.quantized(), plan=decided_for(decided))
    with caplog.at_level(logging.WARNING, "tvm_rsq"):
        module = compile_quantized(quantized, OTHER)
    assert [record.message for record in caplog.records] == [module.report.notes[-1]]
    assert module.report.notes[-1].startswith(f"the plan was decided for {decided} ")
    assert module.report.notes[:-1] == tuple(quantized.calibration.notes)
    if not host_supports(parse_target(OTHER)):
        plain = compile_quantized(small_network.quantized(), OTHER)
        np.testing.assert_array_equal(module.run(small_network.image()), plain.run(small_network.image()))
