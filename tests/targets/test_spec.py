from __future__ import annotations

import dataclasses
import subprocess

import numpy as np
import pytest
import tvm
from tvm import te

from tvm_rsq.errors import TargetError
from tvm_rsq.targets import linker
from tvm_rsq.targets.linker import find_linker, link_function
from tvm_rsq.targets.parse import parse_target
from tvm_rsq.targets.spec import host_supports


def compiled(spec):
    x = te.placeholder((8,), "float32", name="x")
    y = te.compute((8,), lambda i: te.exp(x[i]), name="y")
    return tvm.compile(tvm.IRModule({"main": te.create_prim_func([x, y])}), target=spec.tvm_target())


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


def test_a_linked_library_loads_and_runs(tmp_path):
    spec = parse_target("llvm")
    compiled(spec).export_library(str(tmp_path / "lib.so"), fcompile=link_function(spec))
    y = tvm.runtime.tensor(np.zeros(8, "float32"))
    tvm.runtime.load_module(str(tmp_path / "lib.so"))["main"](tvm.runtime.tensor(np.zeros(8, "float32")), y)
    np.testing.assert_array_equal(y.numpy(), 1)


def test_cross_linking_makes_a_library_of_the_other_architecture(tmp_path):
    spec = other_architecture()
    try:
        find_linker(spec)
    except TargetError as error:
        pytest.skip(str(error))
    compiled(spec).export_library(str(tmp_path / "lib.so"), fcompile=link_function(spec))
    machine = int.from_bytes((tmp_path / "lib.so").read_bytes()[18:20], "little")
    assert machine == {"aarch64": 183, "x86_64": 62}[spec.arch]  # e_machine of ELF


def test_no_linker_is_one_line_with_the_remedy(monkeypatch):
    monkeypatch.setattr(linker.shutil, "which", lambda _: None)
    monkeypatch.setattr(linker.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(TargetError, match="pip install ziglang") as error:
        link_function(parse_target("aarch64"))
    assert "\n" not in str(error.value)


def test_a_failing_linker_is_named(monkeypatch, tmp_path):
    spec = parse_target("llvm")
    failed = subprocess.CompletedProcess([], 1, "", "no space left\nmore")
    monkeypatch.setattr(linker.subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(TargetError, match="no space left"):
        link_function(spec)(str(tmp_path / "lib.so"), [])
