"""The folder that tvm-rsq export-c writes: what is refused, and whose files a second export replaces. Nothing is compiled here."""

from __future__ import annotations

import hashlib
import json
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.integer_case import quantized
from tests.integer_networks import varied
from tvm_rsq.c_export.export import export_c
from tvm_rsq.cli.app import app
from tvm_rsq.compiled_module import CompiledModule
from tvm_rsq.errors import ArtifactError, ConfigError


@pytest.fixture(scope="module")
def coded() -> CompiledModule:
    return quantized(varied(), [(1, 3, 12, 12)]).compile()


def test_checksums_a_second_export_and_what_is_refused(coded, tmp_path):
    artifact, out = tmp_path / "net.rsq", tmp_path / "deploy"
    coded.save(artifact)
    made = CliRunner().invoke(app, ["export-c", str(artifact), "-o", str(out), "--json", "-"])
    assert made.exit_code == 0, made.output
    assert "block.h" in json.loads(made.stdout)["files"]
    for line in (out / "SHA256SUMS").read_text().splitlines():
        digest, name = line.split("  ")
        assert hashlib.sha256((out / name).read_bytes()).hexdigest() == digest
    with pytest.raises(ConfigError, match="is there and not empty"):
        coded.export_c(out)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "own.txt").write_text("mine")
    with pytest.raises(ConfigError, match="name another folder"):
        coded.export_c(tmp_path / "other", replace=True)
    with pytest.raises(ArtifactError, match="did not note its outputs"):
        export_c(replace(coded.contents, outputs=()), tmp_path / "old")
    with pytest.raises(ArtifactError, match="expected a CPU"):
        export_c(replace(coded.contents, target={"kind": "cuda"}), tmp_path / "gpu")


def test_a_second_export_leaves_the_users_files_alone(coded, tmp_path):
    out = tmp_path / "deploy"
    first = {path.name for path in coded.export_c(out)}
    (out / "own.txt").write_text("mine")
    (tmp_path / "outside.txt").write_text("mine")
    with (out / "SHA256SUMS").open("a") as sums:
        sums.write("0  ../outside.txt\n0  ..\n")
    second = replace(coded.contents, name="second")
    (out / "second.h").write_text("mine")
    with pytest.raises(ConfigError, match=r"second\.h is no file of the earlier export"):
        export_c(second, out, replace=True)
    assert (out / "second.h").read_text() == "mine" and (out / "block.h").exists() and not (out / "second.cpp").exists()
    (out / "second.h").unlink()
    export_c(second, out, replace=True)
    assert {path.name for path in out.iterdir()} == first - {"block.h", "block.cpp"} | {"second.h", "second.cpp", "own.txt"}
    assert (out / "own.txt").read_text() == (tmp_path / "outside.txt").read_text() == "mine" and "int main" in (out / "run.cpp").read_text()
    subprocess.run(["sha256sum", "--quiet", "-c", "SHA256SUMS"], cwd=out, check=True)


def test_an_interrupted_second_export_can_be_made_again(coded, tmp_path, monkeypatch):
    out = tmp_path / "deploy"
    coded.export_c(out)
    second = replace(coded.contents, name="second")
    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", lambda *_, **__: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        with pytest.raises(ConfigError, match="cannot write .*No space left"):
            export_c(second, out, replace=True)
    assert (out / "second.h").exists() and (out / "block.h").exists()
    export_c(second, out, replace=True)
    assert not (out / "block.h").exists() and {path.name for path in tmp_path.iterdir()} == {"deploy"}


def test_what_was_changed_since_is_the_users(coded, tmp_path):
    """Neither replaced, nor removed where it is no longer needed; nothing is written before that is known."""
    out = tmp_path / "deploy"
    coded.export_c(out)
    (out / "block.h").write_text("mine")
    export_c(replace(coded.contents, name="second"), out, replace=True)
    assert (out / "block.h").read_text() == "mine" and not (out / "block.cpp").exists()
    (out / "run.cpp").write_text("mine")
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    with pytest.raises(ConfigError, match=r"run\.cpp was changed since it was exported, and its name is needed; move or remove it"):
        export_c(replace(coded.contents, name="third"), out, replace=True)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_an_empty_folder_stays_the_one_that_it_is(coded, tmp_path, monkeypatch):
    """Someone may stand in it. Where it cannot be filled it is empty again."""
    out = tmp_path / "here"
    out.mkdir(mode=0o750)
    known = out.stat()
    monkeypatch.chdir(out)
    coded.export_c(Path())
    assert (out.stat().st_ino, out.stat().st_mode) == (known.st_ino, known.st_mode) and Path("Makefile").is_file()
    for path in list(out.iterdir()):
        path.unlink()
    monkeypatch.setattr("tvm_rsq.c_export.folder.SUMS", "no/such/folder")
    with pytest.raises(ConfigError, match="cannot write"):
        coded.export_c(out)
    assert not list(out.iterdir())
