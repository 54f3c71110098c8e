"""`tvm-rsq synthesize -o x.npy`: the inputs alone, which `--calibration` reads again, and several inputs as a file each."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import tvm_rsq
from tests.tuning.small_module import network
from tvm_rsq.calibration_set import CalibrationSet
from tvm_rsq.cli.app import app
from tvm_rsq.plan import QuantPlan

MODEL = "tests.tuning.small_module:network"


def invoke(*arguments: object):
    return CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)


def test_npy_is_what_npz_holds_and_calibrates(tmp_path: Path) -> None:
    for name in ("c.npy", "c.npz"):
        done = invoke("synthesize", MODEL, "-o", tmp_path / name, "--images", 4, "--source", "gaussian", "--json", tmp_path / "result.json")
        assert done.exit_code == 0 and f"{name}: 4 inputs, gaussian" in done.stdout.replace("\n", ""), done.output
        record = json.loads((tmp_path / "result.json").read_text())
        assert (record["output"], record["files"]) == (str(tmp_path / name), [str(tmp_path / name)])
    assert (np.load(tmp_path / "c.npy") == CalibrationSet.load(tmp_path / "c.npz").inputs[0]).all()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c.npy", "c.npz", "result.json"]
    assert invoke("quantize", MODEL, "--calibration", tmp_path / "c.npy", "-o", tmp_path / "plan.json").exit_code == 0
    given = tvm_rsq.quantize(network()[0], calibration=np.load(tmp_path / "c.npy")).plan
    assert QuantPlan.load(tmp_path / "plan.json").tensors == given.tensors


def test_several_inputs_are_a_file_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = CalibrationSet(inputs=(np.ones((4, 3), np.float32), np.zeros((4, 2), np.float32)), source="gaussian")
    monkeypatch.setattr(tvm_rsq, "synthesize", lambda *args, **keywords: made, raising=False)
    done = invoke("synthesize", MODEL, "-o", tmp_path / "c.npy", "--json", tmp_path / "result.json")
    assert done.exit_code == 0
    files = json.loads((tmp_path / "result.json").read_text())["files"]
    assert files == [str(tmp_path / "c_0.npy"), str(tmp_path / "c_1.npy")] and not (tmp_path / "c.npy").exists()
    assert [np.load(file).shape for file in files] == [(4, 3), (4, 2)]


@pytest.mark.parametrize("name", ["c.bin", "c", "c.NPY"])
def test_what_calibration_could_not_read_is_refused_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(tvm_rsq, "synthesize", lambda *args, **keywords: pytest.fail("it was made"), raising=False)
    done = invoke("synthesize", MODEL, "-o", tmp_path / name)
    assert done.exit_code == 2 and "ends in neither .npz nor .npy" in " ".join(done.stderr.replace("│", " ").split())
