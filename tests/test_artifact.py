"""The artifact: what is saved is what is loaded, and what is not an artifact says so."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import tvm_ffi

import tvm_rsq
from tests import small_network
from tvm_rsq import artifact
from tvm_rsq.atomic_write import atomic_write
from tvm_rsq.compiler import compile_float, compile_quantized
from tvm_rsq.errors import ArtifactError, TargetError
from tvm_rsq.report import serialise
from tvm_rsq.targets.linker import find_linker
from tvm_rsq.targets.parse import parse_target


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("artifact") / "net.rsq"
    small_network.compiled().save(path)
    return path


def rewritten(saved, path, change):
    """A copy of the artifact with its manifest changed and every checksum put right."""
    with zipfile.ZipFile(saved) as source, zipfile.ZipFile(path, "w") as out:
        manifest = json.loads(source.read("manifest.json"))
        parts = {name: source.read(name) for name in manifest["parts"]}
        change(manifest, parts)
        for name, data in parts.items():
            manifest["parts"][name] = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
        text = json.dumps(manifest).encode()
        for name, data in {"manifest.json": text, "sha256": hashlib.sha256(text).hexdigest().encode(), **parts}.items():
            out.writestr(name, data)
    return path


def everything(module):
    """What a module holds, as values that can be compared."""
    contents = module.contents
    return replace(contents, report=None), serialise.to_dict(contents.report)


def test_round_trip(saved):
    module, loaded = small_network.compiled(), artifact.load(saved)
    assert loaded.plan == module.plan and loaded.inputs == module.inputs and loaded.target == "llvm"
    assert loaded.contents.calls == module.contents.calls and loaded.contents.features == module.contents.features
    assert loaded.contents.library == module.contents.library
    assert serialise.to_dict(loaded.report) == serialise.to_dict(module.report)
    np.testing.assert_array_equal(loaded.run(small_network.image()), module.run(small_network.image()))


def test_equal_contents_make_equal_files(saved, tmp_path):
    again = tmp_path / "again.rsq"
    artifact.load(saved).save(again)
    assert again.read_bytes() == saved.read_bytes()
    assert os.listdir(tmp_path) == ["again.rsq"]


def test_a_float_build_has_no_plan(tmp_path):
    compile_float(small_network.quantized().model).save(tmp_path / "float.rsq")
    loaded = artifact.load(str(tmp_path / "float.rsq"))
    assert loaded.plan is None and loaded.report is None
    np.testing.assert_allclose(loaded.run(small_network.image()).sum(), 1, rtol=1e-5)


def test_nothing_is_left_where_writing_fails(tmp_path, monkeypatch):
    (tmp_path / "net.rsq").write_bytes(b"before")

    def full(*_arguments, **_options):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(zipfile.ZipFile, "writestr", full)
    with pytest.raises(ArtifactError, match="cannot write .*net.rsq: No space left"):
        small_network.compiled().save(tmp_path / "net.rsq")
    assert os.listdir(tmp_path) == ["net.rsq"] and (tmp_path / "net.rsq").read_bytes() == b"before"


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    for path in (tmp_path, tmp_path / "missing" / "net.rsq"):
        with pytest.raises(ArtifactError, match=f"^cannot write {path}: "):
            small_network.compiled().save(path)
    # numpy tells of a full disk without an errno.
    with pytest.raises(OSError, match="5 requested and 0 written: .*c.npz") as caught, atomic_write(tmp_path / "c.npz"):
        raise OSError("5 requested and 0 written")
    assert caught.value.filename == str(tmp_path / "c.npz") and os.listdir(tmp_path) == []


def test_every_damage_is_noticed(saved, tmp_path):
    whole = saved.read_bytes()
    reference = everything(artifact.load(saved))
    rng = np.random.default_rng(0)
    ends = np.concatenate([np.arange(0, 60, 4), len(whole) - 1 - np.arange(0, 320, 6)])
    path = tmp_path / "damaged.rsq"
    noticed = 0
    for position in [*ends, *rng.integers(0, len(whole), 40)]:
        damaged = bytearray(whole)
        damaged[position] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        try:
            assert everything(artifact.load(path)) == reference  # a byte that carries nothing, such as a date
        except ArtifactError as error:
            assert "\n" not in str(error) and str(path) in str(error)
            noticed += 1
    assert noticed >= 60


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.9, 0.999])
def test_a_truncated_file_is_refused(saved, tmp_path, share):
    whole = saved.read_bytes()
    path = tmp_path / "short.rsq"
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(ArtifactError, match="not a tvm_rsq artifact"):
        artifact.load(path)


def test_other_files_are_refused(tmp_path):
    with pytest.raises(ArtifactError, match="cannot read .*No such file"):
        artifact.load(tmp_path / "missing.rsq")
    with pytest.raises(ArtifactError, match="cannot read .*directory"):
        artifact.load(tmp_path)
    (tmp_path / "text.rsq").write_text("hello" * 100)
    with pytest.raises(ArtifactError, match="not a tvm_rsq artifact"):
        artifact.load(tmp_path / "text.rsq")
    with zipfile.ZipFile(tmp_path / "foreign.rsq", "w") as archive:
        archive.writestr("word/document.xml", "<xml/>")
    with pytest.raises(ArtifactError, match="zip file without manifest.json"):
        artifact.load(tmp_path / "foreign.rsq")


def test_a_compression_bomb_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "bomb.rsq", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("manifest.json", bytes(10**9 // 4))
    with pytest.raises(ArtifactError, match="more than an artifact can hold"):
        artifact.load(tmp_path / "bomb.rsq")


CHANGES = {
    "has schema 99": lambda manifest, parts: manifest.update(schema=99),
    "compiled with TVM 0.1": lambda manifest, parts: manifest.update(tvm="0.1"),
    "compiled with TVM None": lambda manifest, parts: manifest.pop("tvm"),
    "C ABI of apache-tvm-ffi 0.9.3, this is": lambda manifest, parts: manifest.update(tvm_ffi="0.9.3"),
    "C ABI of apache-tvm-ffi None": lambda manifest, parts: manifest.pop("tvm_ffi"),
    "lacks avx9000": lambda manifest, parts: manifest.update(features=["avx9000"]),
    "a CPU of kind riscv64": lambda manifest, parts: manifest.update(arch="riscv64"),
    "cannot be read .*inputs": lambda manifest, parts: manifest.pop("inputs"),
    "cannot be read .*lib.so": lambda manifest, parts: (parts.pop("lib.so"), manifest["parts"].pop("lib.so")),
    "cannot be read .*not a quantization plan": lambda manifest, parts: parts.update({"plan.json": b"{}"}),
    "cannot be read .*Expecting": lambda manifest, parts: parts.update({"report.json": b"{"}),
    "cannot be read .*unexpected keyword": lambda manifest, parts: manifest["calls"][0].update(more=1),
}


@pytest.mark.parametrize("message", CHANGES)
def test_what_cannot_run_here_says_why(saved, tmp_path, message):
    with pytest.raises(ArtifactError, match=message):
        artifact.load(rewritten(saved, tmp_path / "changed.rsq", CHANGES[message]))


def test_another_patch_of_the_ffi_and_of_tvm_rsq_is_welcome(saved, tmp_path):
    def change(manifest, parts):
        assert manifest["tvm_rsq"] == tvm_rsq.__version__
        manifest.update(tvm_ffi=".".join([*tvm_ffi.__version__.split(".")[:2], "99"]), tvm_rsq="0.0.1")

    assert artifact.load(rewritten(saved, tmp_path / "patched.rsq", change)).target == "llvm"


@pytest.mark.parametrize("schema", [None, [], "1"])
def test_a_manifest_that_is_no_manifest(saved, tmp_path, schema):
    with pytest.raises(ArtifactError):
        artifact.load(rewritten(saved, tmp_path / "changed.rsq", lambda manifest, parts: manifest.update(schema=schema)))


def test_an_artifact_for_another_machine_is_looked_at_and_not_run(tmp_path):
    spec = parse_target("llvm -mtriple=aarch64")
    if not spec.is_cross:
        pytest.skip("this machine is an aarch64 itself")
    try:
        find_linker(spec)
    except TargetError as error:
        pytest.skip(str(error))
    module = compile_quantized(small_network.quantized(), spec)
    library = module.contents.library
    assert library[:4] == b"\x7fELF" and library[18] == 183, "e_machine of aarch64"
    module.save(tmp_path / "arm.rsq")
    with pytest.raises(ArtifactError, match="cannot run here: this machine lacks a CPU of kind aarch64"):
        artifact.load(tmp_path / "arm.rsq")
    seen = artifact.load(tmp_path / "arm.rsq", to_run=False)
    assert seen.plan == small_network.quantized().plan and seen.target == "llvm -mtriple=aarch64"
    with pytest.raises(ArtifactError, match="compiled for llvm -mtriple=aarch64"):
        seen.run(small_network.image())
