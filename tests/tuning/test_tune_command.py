"""`tvm-rsq tune`, `tvm-rsq compile --tuning` and `compile(tuning=...)` on a small network and this machine."""

from __future__ import annotations

import json

import numpy as np
import pytest
from typer.testing import CliRunner

import tvm_rsq
from tests import small_network
from tests.integer_case import noise
from tests.tiny_networks import classifier
from tests.tuning.fake_runner import TableRunner
from tvm_rsq import ConfigError, TargetError, TuneConfig
from tvm_rsq.cli.app import app
from tvm_rsq.compiler import compile_quantized, tune_quantized
from tvm_rsq.targets.generic.tiles import Tile
from tvm_rsq.threads import thread_count
from tvm_rsq.tuning import tune as tune_module
from tvm_rsq.tuning.tuned_library import TunedLibrary
from tvm_rsq.tuning.work_dir import read_decisions

MODEL = "tests.tuning.small_module:network"
FOREIGN = "llvm -mtriple=aarch64"


class OneSlower:
    """A Runner: what is asked first is slowest."""

    def times(self, task, choices, rounds):
        return [[float(len(choices) - i)] * rounds for i in range(len(choices))]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Tuned with the fake machine, so that every layer that has a choice is made another way."""
    path = tmp_path_factory.mktemp("tuning")
    results = tune_quantized(small_network.quantized(), "llvm", TuneConfig(trials=6, work_dir=path, threads=1), runner=OneSlower())
    assert [layer for result in results for layer in result.task.layers]
    return path


def test_a_tuned_network_computes_the_same(folder, monkeypatch):
    monkeypatch.setenv("TVM_NUM_THREADS", "1")
    made = []
    original = TunedLibrary.conv2d
    monkeypatch.setattr(TunedLibrary, "conv2d", lambda self, w, choice=None: made.append(original(self, w, choice)) or made[-1])
    tuned = tvm_rsq.compile(small_network.quantized(), tuning=TuneConfig(trials=0, work_dir=folder))
    untuned = small_network.compiled()
    np.testing.assert_array_equal(tuned.run(small_network.image()), untuned.run(small_network.image()))
    assert made


def test_what_is_decided_is_what_is_made(folder, monkeypatch):
    found = compile_quantized(small_network.quantized(), tuning=TuneConfig(trials=0, work_dir=folder, threads=1))
    results = tune_quantized(small_network.quantized(), "llvm", TuneConfig(trials=0, work_dir=folder, threads=1), runner=OneSlower())
    kernels = {call.layer: call.kernel for call in found.contents.calls if call.layer}
    for result in results:
        choice = result.decision.choice
        if isinstance(choice, Tile):
            assert f"_{choice.cols}x{choice.vecs}x{choice.lanes}" in kernels[result.task.layers[0]]


def test_compile_tunes_what_is_missing(tmp_path):
    stages = []
    tuning = TuneConfig(trials=1, work_dir=tmp_path / "new", threads=1)
    module = small_network.quantized().compile(tuning=tuning, progress=lambda event: stages.append(event.stage))
    image = small_network.image()
    np.testing.assert_array_equal(module.run(image), small_network.compiled().run(image))
    assert {"compare", "tuning", "build"} <= set(stages) and read_decisions(tmp_path / "new")


def test_nothing_to_read_is_an_error(tmp_path, folder):
    with pytest.raises(ConfigError, match="no tuning folder"):
        tvm_rsq.compile(classifier(), tuning=TuneConfig(trials=0, work_dir=tmp_path / "missing"))
    with pytest.raises(ConfigError, match="holds nothing for this network .* with 7 threads"):
        compile_quantized(small_network.quantized(), tuning=TuneConfig(trials=0, work_dir=folder, threads=7))


def test_another_machine_is_refused_before_the_long_work(tmp_path, monkeypatch):
    monkeypatch.setattr("tvm_rsq.api.find_linker", lambda spec: None)
    with pytest.raises(TargetError, match="lacks aarch64 CPU"):
        tvm_rsq.compile(classifier(), FOREIGN, calibration="nowhere.npz", tuning=TuneConfig(work_dir=tmp_path))


def test_a_folder_that_cannot_be_used_is_refused_before_the_long_work(tmp_path, photos, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr("tvm_rsq.api._load", lambda *_: pytest.fail("the network was read first"))
    with pytest.raises(ConfigError, match="cannot tune in"):
        tvm_rsq.compile(classifier(), tuning=TuneConfig(work_dir=tmp_path / "file"))
    for trials in (0, 3):
        done = invoke("tune", MODEL, "--trials", trials, "--work-dir", tmp_path / "file", "--calibration", photos)
        assert done.exit_code == 1 and "cannot tune in" in done.stderr and done.stderr.count("\n") == 1


def test_a_configuration_is_checked_when_it_is_made():
    for wrong in ({"trials": -1}, {"trials": 1.5}, {"trials": True}, {"threads": 0}, {"seed": -1}, {"work_dir": 3}):
        with pytest.raises(ConfigError):
            TuneConfig(**wrong)


def invoke(*arguments: object):
    return CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)


@pytest.fixture
def photos(tmp_path):
    np.save(tmp_path / "photos.npy", noise(8, *small_network.SHAPE[1:]))
    return tmp_path / "photos.npy"


def test_tune_then_compile(tmp_path, photos, monkeypatch):
    monkeypatch.setenv("TVM_NUM_THREADS", "1")
    monkeypatch.setattr(tune_module, "LocalRunner", lambda spec: OneSlower())
    folder, record = tmp_path / "tuning", tmp_path / "tune.json"
    common = ["--calibration", photos, "--scheme", "per_channel"]
    done = invoke("tune", MODEL, "--trials", 3, "--work-dir", folder, "--json", record, *common)
    assert done.exit_code == 0 and "tuned us" in done.stdout and "all convolutions" in done.stdout
    found = json.loads(record.read_text())
    assert (found["schema"], found["command"], found["threads"], found["target"]) == (1, "tune", 1, "llvm")
    assert all({"layers", "workload", "untuned_us", "tuned_us", "choice", "measured", "space"} <= set(task) for task in found["tasks"])
    done = invoke("compile", MODEL, "-o", tmp_path / "net.rsq", "--tuning", folder, *common)
    assert done.exit_code == 0 and "kinds of convolution" in done.stderr
    assert invoke("compile", MODEL, "-o", tmp_path / "net.rsq", "--tuning", tmp_path / "absent", *common).exit_code == 1


def test_tune_decides_the_plan_that_compile_decides(tmp_path, photos, monkeypatch):
    """With the same options, at the threads that are asked for."""
    monkeypatch.setenv("TVM_NUM_THREADS", "3")  # and back after the test, whatever the commands set
    monkeypatch.setenv("TVM_RSQ_TIMINGS", str(tmp_path / "times.jsonl"))
    monkeypatch.setattr(tune_module, "LocalRunner", lambda spec: OneSlower())
    decided = []
    original = tvm_rsq.quantize
    for place in ("tvm_rsq.quantize", "tvm_rsq.api.quantize"):
        monkeypatch.setattr(place, lambda *args, **kw: decided.append((thread_count(), original(*args, **kw))) or decided[-1][1])
    common = ["--calibration", photos, "--levers", "per_tensor,shift", "--requantize", "float", "--threads", 1]
    done = invoke("tune", MODEL, "--trials", 1, "--work-dir", tmp_path / "tuning", *common)
    assert done.exit_code == 0, done.stderr
    monkeypatch.setenv("TVM_NUM_THREADS", "3")
    done = invoke("compile", MODEL, "-o", tmp_path / "net.rsq", "--tuning", tmp_path / "tuning", *common)
    assert done.exit_code == 0, done.stderr
    (tuned_threads, tuned), (compiled_threads, compiled) = decided
    assert tuned_threads == compiled_threads == 1
    assert tuned.plan == compiled.plan and tuned.config == compiled.config and tuned.config.levers == ("per_tensor", "shift")
    assert {json.loads(line)["task"]["threads"] for line in (tmp_path / "times.jsonl").read_text().splitlines()} == {1}


def test_ctrl_c_keeps_what_was_measured(tmp_path, photos, monkeypatch):
    monkeypatch.setattr(tune_module, "LocalRunner", lambda spec: TableRunner(stop_after=0))
    done = invoke("tune", MODEL, "--trials", 3, "--work-dir", tmp_path / "tuning", "--calibration", photos, "--scheme", "per_channel")
    assert done.exit_code == 130 and "interrupted" in done.stderr


def test_tune_refuses_another_machine_in_one_line(tmp_path):
    done = invoke("tune", MODEL, "--work-dir", tmp_path / "t", "--target", FOREIGN)
    assert done.exit_code == 1 and "lacks aarch64 CPU" in done.stderr and done.stderr.count("\n") == 1
    assert invoke("tune", MODEL, "--work-dir", tmp_path / "t", "--trials", -1).exit_code == 2
