"""Tuning on boards: several at once, on what they count, with records that say so, and whatever becomes of a board."""

from __future__ import annotations

import json
import math
import subprocess

import numpy as np
import pytest
from typer.testing import CliRunner

import tvm_rsq
from tests import small_network
from tests.integer_case import noise
from tests.remote.local_fleet import local_fleet
from tests.remote.programs import running
from tests.tiny_networks import classifier
from tvm_rsq import ConfigError, DeviceError, QuantConfig, RemoteDevice, TuneConfig
from tvm_rsq.cli.app import app
from tvm_rsq.compiler import tune_quantized
from tvm_rsq.progress import silent
from tvm_rsq.remote.remote_runner import RemoteRunner
from tvm_rsq.targets.workload import Conv2DWorkload
from tvm_rsq.tuning.task import tuning_task
from tvm_rsq.tuning.trial import trial
from tvm_rsq.tuning.work_dir import read_decisions

FILES = ("best.jsonl", "database_tuning_record.json", "database_workload.json")
FIRST = Conv2DWorkload(batch=1, height=4, width=4, in_channels=8, out_channels=8, kernel=(1, 1))


@pytest.fixture(scope="module")
def fleet():
    with local_fleet() as made:
        made.board("counting", "--counts")
        made.board("counting", "--counts")
        made.board("timing")
        yield made


@pytest.fixture(scope="module")
def quantized():
    return tvm_rsq.quantize(classifier(), QuantConfig(scheme="per_channel"), calibration=noise(8, *small_network.SHAPE[1:]))


def tune(fleet, quantized, folder, key="counting", trials=8, progress=silent, **settings):
    with RemoteRunner(fleet.device(key, **settings), silent) as runner:
        tuning = TuneConfig(trials=trials, work_dir=folder, threads=1)
        return tune_quantized(quantized, runner.spec, tuning, runner=runner, machine=runner.machine, progress=progress)


@pytest.fixture(scope="module")
def tuned(fleet, quantized, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tuned")
    return folder, tune(fleet, quantized, folder)


def test_records_of_counts_are_the_same_in_every_byte(fleet, quantized, tuned, tmp_path):
    folder, results = tuned
    assert tune(fleet, quantized, tmp_path) == results
    assert all((folder / name).read_bytes() == (tmp_path / name).read_bytes() for name in FILES)


def test_records_say_what_they_measure_and_where(tuned):
    folder, results = tuned
    for line in map(json.loads, (folder / "best.jsonl").read_text().splitlines()):
        assert line["task"]["measure"] == "instructions" and line["task"]["cpu"].startswith("counting over RPC (")
        assert "us" not in line and line["cost"] == int(line["cost"]) <= line["untuned_cost"]
    assert all(result.task.task.measure == "instructions" for result in results)


def test_a_second_run_measures_nothing(fleet, quantized, tuned):
    stages = []
    assert tune(fleet, quantized, tuned[0], progress=lambda event: stages.append(event.stage)) == tuned[1]
    assert "tune" not in stages


def test_counts_and_times_are_never_compared(fleet, quantized, tuned):
    """Not even in one folder: what is on record by the one measure says nothing by the other."""
    folder, results = tuned
    timed = tune(fleet, quantized, folder, key="timing", trials=2)
    assert all(result.task.task.measure == "time" and "measure" not in result.task.task.key() for result in timed)
    assert sum(result.decision.measured for result in timed) < sum(result.decision.measured for result in results)
    decisions = read_decisions(folder)
    for result, other in zip(timed, results, strict=True):
        assert decisions.get(result.task.task) == result.decision and decisions.get(other.task.task) == other.decision


def test_compile_makes_what_was_decided_on_the_device(fleet, quantized, tuned):
    device = fleet.device("counting")
    module = tvm_rsq.compile(quantized, device=device, tuning=TuneConfig(trials=0, work_dir=tuned[0], threads=1))
    kernels = {call.layer: call.kernel for call in module.contents.calls if call.layer}
    untuned = {call.layer: call.kernel for call in quantized.compile().contents.calls if call.layer}
    for result in tuned[1]:
        for layer in result.task.layers:
            assert (kernels[layer] == untuned[layer]) == result.kept_untuned
    image = small_network.image()
    np.testing.assert_array_equal(module.run(image), quantized.compile().run(image))
    with pytest.raises(ConfigError, match="got a target and a device"):
        tvm_rsq.compile(quantized, "llvm", device=device)


def test_a_board_that_dies_is_done_without(fleet, quantized, tuned, tmp_path):
    boards = [fleet.board("mortal", "--counts") for _ in range(2)]

    def kill_one(event):
        if event.stage == "tune" and event.done == 3:
            fleet.kill(boards.pop())

    results = tune(fleet, quantized, tmp_path, key="mortal", progress=kill_one)
    assert not boards[1:] and [r.decision.choice for r in results] == [r.decision.choice for r in tuned[1]], "the same, whoever is left"
    fleet.kill(boards.pop())


def test_without_any_board_it_ends_and_keeps_what_it_has(fleet, quantized, tmp_path):
    board = fleet.board("last", "--counts")

    def kill(event):
        if event.stage == "tune" and event.done == 3:
            fleet.kill(board)

    with pytest.raises(DeviceError, match=r"no board last at the tracker .*; start one with") as found:
        tune(fleet, quantized, tmp_path, key="last", progress=kill)
    assert "\n" not in str(found.value)
    kept = (tmp_path / "database_tuning_record.json").read_text().splitlines()
    assert len(kept) >= 3
    fleet.board("last", "--counts")
    tune(fleet, quantized, tmp_path, key="last")
    assert (tmp_path / "database_tuning_record.json").read_text().splitlines()[: len(kept)] == kept


def test_a_board_with_a_full_disk_is_left_out(fleet, quantized, tmp_path, caplog):
    fleet.board("mixed", "--counts", "--largest-file", "4096")
    fleet.board("mixed", "--counts")
    results = tune(fleet, quantized, tmp_path, key="mixed", trials=4)
    assert all(math.isfinite(result.cost) for result in results) and "one board less: " in caplog.text


FAULTS = {"crash": "__builtin_trap();", "hang": "for (;;) pause();"}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_kernel_that_takes_its_session_down_has_failed_and_no_other(fleet, tmp_path, monkeypatch, fault):
    """On this project's own server, which outlives its sessions."""
    source, faulty = tmp_path / "faulty.c", tmp_path / "faulty.so"
    source.write_text(f"#include <unistd.h>\nint __tvm_ffi_main(void *a, const void *b, int c, void *d) {{ {FAULTS[fault]} return 0; }}")
    subprocess.run(["cc", "-shared", "-fPIC", "-o", faulty, source], check=True)
    with running(tmp_path, "serve", "--tracker", str(fleet.tracker.address), "--key", fault):
        fleet.wait_for(lambda: fleet.registered(fault))
        with RemoteRunner(fleet.device(fault, session_timeout_s=3.0, patience_s=20.0), silent) as runner:
            task = tuning_task(runner.spec, FIRST, 1, runner.machine)
            untuned, bad, good = runner.spec.library.conv2d_space(FIRST)[:3]
            library = runner._library

            def broken(task, choice):
                made, kernel = library(task, choice)
                return (faulty.read_bytes() if choice == bad else made), kernel

            monkeypatch.setattr(runner, "_library", broken)
            assert math.isinf(trial(task, untuned, bad, runner)[bad])
            assert trial(task, untuned, good, runner)[good] > 0


def test_levers_are_decided_by_what_the_device_counts(fleet, tmp_path, monkeypatch):
    monkeypatch.setenv("TVM_RSQ_TIMINGS", str(tmp_path / "times.jsonl"))
    found = tvm_rsq.quantize(classifier(), device=fleet.device("counting"), calibration=noise(8, *small_network.SHAPE[1:]))
    assert found.plan.provenance["measure"] == "instructions" and found.plan.provenance["frontier"]
    lines = [json.loads(line) for line in (tmp_path / "times.jsonl").read_text().splitlines()]
    assert lines and all(line["task"]["measure"] == "instructions" and "us" not in line and line["cost"] > 1000 for line in lines)
    assert all(layer.time_us > 1000 for layer in found.plan.layers)  # bytes of a library, which this board takes for instructions
    assert not any("µs" in layer.reason or "time" in layer.reason for layer in found.plan.layers)


@pytest.mark.parametrize(
    ("key", "measure", "message"),
    [("counting", "time", "is emulated: how long it takes"), ("timing", "instructions", "counts no instructions")],
)
def test_what_cannot_be_measured_is_refused(fleet, key, measure, message):
    with pytest.raises(DeviceError, match=message):
        RemoteRunner(fleet.device(key, measure=measure), silent)
    fleet.wait_for(lambda: not fleet.busy(key))


def test_a_device_is_checked_when_it_is_made():
    for wrong in ({"tracker": "nowhere"}, {"key": "a b"}, {"key": ""}, {"measure": "joules"}, {"threads": 0}, {"session_timeout_s": 0}):
        with pytest.raises(ConfigError):
            RemoteDevice(**{"tracker": "127.0.0.1:1", "key": "cortex-a76", **wrong})
    with pytest.raises(ConfigError, match="no target has that name; say what the boards are, as in kitchen=cortex-a76"):
        RemoteDevice(tracker="127.0.0.1:1", key="kitchen").spec()
    assert RemoteDevice(tracker="127.0.0.1:1", key="cortex-a76").spec().tvm["mcpu"] == "cortex-a76"


def invoke(*arguments: object):
    return CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)


MODEL = "tests.tuning.small_module:network"


def test_the_command_line(fleet, tmp_path, monkeypatch):
    monkeypatch.setenv("TVM_RSQ_TIMINGS", str(tmp_path / "times.jsonl"))
    np.save(tmp_path / "photos.npy", noise(8, *small_network.SHAPE[1:]))
    device = ["--device", "counting=llvm", "--tracker", fleet.tracker.address, "--measure", "instructions"]
    common = [*device, "--calibration", tmp_path / "photos.npy"]
    done = invoke("tune", MODEL, "--trials", 4, "-d", tmp_path / "tuning", "--json", tmp_path / "tune.json", *common)
    assert done.exit_code == 0, done.stderr
    assert "untuned instructions" in done.stdout and " us " not in done.stdout
    record = json.loads((tmp_path / "tune.json").read_text())
    assert (record["device"], record["boards"], record["measure"], record["threads"]) == ("counting", 2, "instructions", 1)
    assert record["untuned_us"] is record["tuned_us"] is None and record["tuned"] <= record["untuned"]
    done = invoke("compile", MODEL, "-o", tmp_path / "net.rsq", "--tuning", tmp_path / "tuning", *common)
    assert done.exit_code == 0, done.stderr
    assert "instructions" in done.stdout and "latency" not in done.stdout


def test_wrong_usage_is_said(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert invoke("tune", MODEL, "-d", "x", "--tracker", "127.0.0.1:9").exit_code == 2
    assert invoke("tune", MODEL, "-d", "x", "--device", "cortex-a76").exit_code == 2
    assert invoke("tune", MODEL, "-d", "x", "--device", "a,b", "--tracker", "127.0.0.1:9").exit_code == 2
    assert invoke("compile", MODEL, "-o", "x", "--device", "cortex-a76", "--tracker", "127.0.0.1:9", "--target", "llvm").exit_code == 2
    done = invoke("tune", MODEL, "-d", "x", "--device", "cortex-a76", "--tracker", "127.0.0.1:9")
    assert done.exit_code == 1 and "no tracker at 127.0.0.1:9" in done.stderr and done.stderr.count("\n") == 1
