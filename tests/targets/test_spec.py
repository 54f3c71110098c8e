from __future__ import annotations

import dataclasses

from tvm_rsq.targets.parse import parse_target
from tvm_rsq.targets.spec import host_supports


def other_architecture():
    return parse_target("x86-64" if parse_target("llvm").arch == "aarch64" else "aarch64")


def test_this_machine_supports_itself():
    assert host_supports(parse_target("llvm")) == []


def test_what_is_missing_is_named():
    spec = parse_target("llvm")
    wanting = dataclasses.replace(spec, features=spec.features | {"quantum", "avx1024"})
    assert host_supports(wanting) == ["avx1024", "quantum"]
    assert host_supports(other_architecture()) == [f"{other_architecture().arch} CPU"]


def test_a_spec_is_a_value():
    assert parse_target("haswell") == parse_target("haswell")
    assert len({parse_target("haswell"), parse_target("haswell"), parse_target("znver3")}) == 2
