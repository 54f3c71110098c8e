"""Linking: for here and elsewhere, by whatever works, and never half."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tvm
from qemu_aarch64 import QemuLibrary, skip_without_qemu
from tvm import te, tirx

from tvm_rsq.errors import TargetError
from tvm_rsq.targets import linker, linker_candidates
from tvm_rsq.targets.elf import empty_object, is_shared_library
from tvm_rsq.targets.linker import find_linker, link_function
from tvm_rsq.targets.linker_candidates import Linker
from tvm_rsq.targets.parse import parse_target

HERE = parse_target("llvm")
OTHER = parse_target("x86-64" if HERE.arch == "aarch64" else "aarch64")
GCC, GXX = f"{OTHER.arch}-linux-gnu-gcc", f"{OTHER.arch}-linux-gnu-g++"


def curve():
    """y = exp(x) + erf(x), which call libm."""
    x = te.placeholder((8,), "float32", name="x")
    y = te.compute((8,), lambda i: tirx.exp(x[i]) + tirx.erf(x[i]), name="y")
    return te.create_prim_func([x, y])


def compiled(spec):
    return tvm.compile(tvm.IRModule({"main": curve()}), target=spec.tvm_target())


def needed(library: Path) -> list[str]:
    """The libraries that a library asks for."""
    said = subprocess.run(["readelf", "-d", str(library)], capture_output=True, text=True, check=True, env={**os.environ, "LC_ALL": "C"})
    return [line.partition("[")[2].rstrip("]") for line in said.stdout.splitlines() if "(NEEDED)" in line]


def real(spec) -> list[Linker]:
    """What is installed here, one of each kind."""
    kinds = {}
    for found in linker_candidates.linker_candidates(spec.arch, native=not spec.is_cross):
        kinds.setdefault((found.has_libc, found.name.rstrip("-0123456789")), found)
    return [found for found in kinds.values() if not found.name.endswith("zig cc")]


@pytest.fixture
def path(tmp_path, monkeypatch):
    """A PATH with nothing on it but what is put there: path(name, script) is a command that is a shell script."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setattr(linker_candidates.importlib.util, "find_spec", lambda _: None)

    def put(name: str, script: str) -> None:
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)

    return put


def links_for(arch: str) -> str:
    """A script that makes the header of a library for `arch` where it is told to."""
    header = bytearray(empty_object(arch)[:64])
    header[16:18] = struct.pack("<H", 3)
    octal = "".join(f"\\{byte:03o}" for byte in header)
    return f"""while [ "$1" != -o ]; do shift; done; printf '{octal}' > "$2\""""


def test_a_linked_library_loads_and_runs(tmp_path):
    compiled(HERE).export_library(str(tmp_path / "lib.so"), fcompile=link_function(HERE))
    y = tvm.runtime.tensor(np.zeros(8, "float32"))
    tvm.runtime.load_module(str(tmp_path / "lib.so"))["main"](tvm.runtime.tensor(np.zeros(8, "float32")), y)
    np.testing.assert_array_equal(y.numpy(), 1)


@pytest.mark.parametrize("spec", [HERE, OTHER], ids=lambda spec: spec.arch)
def test_every_linker_makes_a_library_that_asks_for_libm(tmp_path, monkeypatch, spec):
    installed = real(spec)
    if not installed:
        pytest.skip(f"nothing links for {spec.arch} here; run: apt install g++-{spec.arch.replace('_', '-')}-linux-gnu")
    module = compiled(spec)
    for found in installed:
        monkeypatch.setattr(linker, "find_linker", lambda _, found=found: found)
        module.export_library(str(tmp_path / "lib.so"), fcompile=link_function(spec))
        assert is_shared_library(tmp_path / "lib.so", spec.arch)
        assert needed(tmp_path / "lib.so") == ["libm.so.6"], found.name


@pytest.mark.parametrize("has_libc", [True, False])
def test_libm_is_there_in_a_process_that_has_none(tmp_path, monkeypatch, has_libc):
    skip_without_qemu()
    spec = parse_target("cortex-a72")
    found = next((one for one in real(spec) if one.has_libc == has_libc), None)
    if found is None:
        pytest.skip("no such linker is installed; run: apt install lld")
    monkeypatch.setattr(linker, "find_linker", lambda _: found)
    _, y = QemuLibrary({"main": curve()}, spec, tmp_path).call("main", np.zeros(8, np.float32), np.zeros(8, np.float32))
    np.testing.assert_array_equal(y, 1)


def test_nothing_installed_is_one_line_with_the_remedy(path):
    package = f"g\\+\\+-{OTHER.arch.replace('_', '-')}-linux-gnu"
    said = f"none of {GCC}, ld.lld, zig is installed; run `apt install {package}`.*pip install ziglang"
    with pytest.raises(TargetError, match=said) as error:
        link_function(OTHER)
    assert "\n" not in str(error.value)
    with pytest.raises(TargetError, match="none of cc, ld.lld, zig is installed; run `apt install gcc`"):
        find_linker(HERE)


def test_what_does_not_work_is_passed_over(path):
    path(GCC, "echo 'cannot find crti.o' >&2; exit 1")
    path(GXX, links_for(HERE.arch))
    path("ld.lld-9", "exit 0")
    path("ld.lld-21", links_for(OTHER.arch))
    assert find_linker(OTHER).name == "ld.lld-21"
    path("ld.lld", links_for(OTHER.arch))
    assert find_linker(OTHER).name == "ld.lld"


def test_if_nothing_works_every_reason_is_told(path, monkeypatch):
    path(GCC, "echo 'cannot find crti.o' >&2; echo more >&2; exit 1")
    path(GXX, links_for(HERE.arch))
    path("ld.lld", "kill -9 $$")
    path("zig", "exec /nowhere")
    with pytest.raises(TargetError) as error:
        find_linker(OTHER)
    said = str(error.value)
    assert f"{GCC} said 'cannot find crti.o'; {GXX} made no shared library for {OTHER.arch}; ld.lld ended with -9; " in said
    assert "zig ld.lld said" in said and "zig cc said" in said and "run `apt install" in said and "\n" not in said


def test_a_command_that_hangs_or_is_no_program_is_passed_over(path, monkeypatch, tmp_path):
    path(GCC, f"exec {shutil.which('sleep', path='/bin:/usr/bin')} 60")
    (tmp_path / "bin" / GXX).write_bytes(b"\x7fELF nonsense")
    (tmp_path / "bin" / GXX).chmod(0o755)
    (tmp_path / "bin" / f"{GXX}-12").write_text("may not be executed")
    monkeypatch.setattr(linker, "_LIMIT_S", 0.2)
    path("ld.lld", links_for(OTHER.arch))
    assert find_linker(OTHER).name == "ld.lld"
    (tmp_path / "bin" / "ld.lld").unlink()
    with pytest.raises(TargetError, match="was not done after 0.2 s; .* cannot be run"):
        find_linker(OTHER)


def test_zig_is_the_last_resort(path, monkeypatch):
    monkeypatch.setattr(linker_candidates.importlib.util, "find_spec", lambda name: name == "ziglang")
    path("zig", 'test "$1" = cc || exit 1; ' + links_for(OTHER.arch))
    names = [found.name for found in linker_candidates.linker_candidates(OTHER.arch, native=False)]
    assert names == ["zig ld.lld", "python -m ziglang ld.lld", "zig cc", "python -m ziglang cc"]
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    found = find_linker(OTHER)
    assert found.name == "zig cc" and f"{OTHER.arch}-linux-gnu.2.28" in found.command


def test_this_machines_own_compiler_comes_before_one_with_a_prefix(path):
    path(f"{HERE.arch}-linux-gnu-gcc", links_for(HERE.arch))
    assert find_linker(HERE).name == f"{HERE.arch}-linux-gnu-gcc"
    path("cc", links_for(HERE.arch))
    assert find_linker(HERE).name == "cc"


def test_a_failure_is_named_and_leaves_what_was_there(monkeypatch, tmp_path):
    library = tmp_path / "lib.so"
    library.write_bytes(b"before")
    (tmp_path / "bad.o").write_bytes(b"no object")
    with pytest.raises(TargetError, match=f"linking for {HERE.triple} failed: .* said '.*bad.o"):
        link_function(HERE)(str(library), [str(tmp_path / "bad.o")])
    script = 'while [ "$1" != -o ]; do shift; done; echo half > "$2"; echo full disk >&2; exit 1'
    half = Linker("half", ("sh", "-c", script, "sh"), has_libc=True)
    monkeypatch.setattr(linker, "find_linker", lambda _: half)
    with pytest.raises(TargetError, match="half said 'full disk'"):
        link_function(HERE)(str(library), [])
    assert library.read_bytes() == b"before" and sorted(os.listdir(tmp_path)) == ["bad.o", "lib.so"]
