"""Emulated boards as devices: bit-exact answers, counts in place of times, and kernels that the board's CPU lacks."""

from __future__ import annotations

import json

import numpy as np
import pytest
from typer.testing import CliRunner

import tvm_rsq
from tests import small_network
from tests.integer_case import noise
from tests.remote.faulty_kernels import faulty_library
from tests.scripts.test_arm_emulator import emulator
from tests.tiny_networks import classifier
from tvm_rsq import DeviceError, QuantConfig, RemoteDevice, TargetError, TuneConfig
from tvm_rsq.cli.app import app
from tvm_rsq.compiler import tune_quantized
from tvm_rsq.progress import silent
from tvm_rsq.remote.board_session import SessionLost, open_session
from tvm_rsq.remote.measures import measuring
from tvm_rsq.remote.remote_network import RemoteNetwork
from tvm_rsq.remote.remote_runner import RemoteRunner
from tvm_rsq.targets.llvm_tools import find_llvm_tools

MODEL = "tests.remote.test_bench_devices:network"


@pytest.fixture(scope="module")
def tracker():
    with emulator("--keys", "cortex-a72,cortex-a76") as (_, port, _):
        yield f"127.0.0.1:{port}"


def bench(tracker, folder, *arguments):
    np.save(folder / "photos.npy", noise(8, *small_network.SHAPE[1:]))
    words = ["bench", MODEL, "--tracker", tracker, "--json", folder / "rows.json", "--calibration", folder / "photos.npy", *arguments]
    done = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    return done, json.loads((folder / "rows.json").read_text())["rows"]


def test_two_boards_answer_as_this_machine_and_are_counted(tracker, tmp_path):
    done, rows = bench(tracker, tmp_path, "--device", "cortex-a72,cortex-a76", "--builds", "per-channel,FP32", "--measure", "instructions")
    assert done.exit_code == 0, done.stderr
    assert [(row["device"], row["target"], row["build"]) for row in rows] == [
        (key, key, build) for key in ("cortex-a72", "cortex-a76") for build in ("per-channel", "FP32")
    ]
    assert all(row["bit_exact"] for row in rows if row["build"] != "FP32") and all(row["error"] is None for row in rows)
    assert all(row["latency_us"] is None and row["instructions"] > 1000 and row["threads"] == 1 for row in rows)


def test_a_build_that_the_board_cannot_run_is_said_and_the_next_one_runs(tracker, tmp_path, monkeypatch):
    library = faulty_library(tmp_path, "aarch64").read_bytes()
    original = RemoteNetwork.run

    def run(self, *inputs):
        if self.first:
            self._session.do(lambda _rpc: self._session.load(library)["sdot"]())
        return original(self, *inputs)

    made = RemoteNetwork.__init__

    def make(self, session, contents):
        self.first = contents.plan is not None
        made(self, session, contents)

    monkeypatch.setattr(RemoteNetwork, "__init__", make)
    monkeypatch.setattr(RemoteNetwork, "run", run)
    done, rows = bench(tracker, tmp_path, "--device", "cortex-a72", "--builds", "per-channel,FP32")
    assert done.exit_code == 1 and "an instruction that this CPU lacks" in done.stderr.splitlines()[-1]
    assert rows[0]["bit_exact"] is None and "SIGILL" in rows[0]["error"] and rows[0]["instructions"] is None
    assert rows[1]["error"] is None and rows[1]["instructions"] > 1000


def test_a_lost_session_says_what_it_died_of(tracker, tmp_path):
    library = faulty_library(tmp_path, "aarch64").read_bytes()
    device = RemoteDevice(tracker=tracker, key="cortex-a72", session_timeout_s=60)
    with open_session(device, lambda _why: None) as session:
        assert session.emulated
        with pytest.raises(SessionLost, match="SIGILL: an instruction that this CPU lacks; compile for the board's own target"):
            session.do(lambda _rpc: session.load(library)["sdot"]())


@pytest.mark.parametrize(("target", "why"), [("cortex-a76", "SIGILL"), ("x86-64", "cannot load the library")])
def test_a_board_that_is_not_what_was_named(tracker, tmp_path, target, why):
    quantized = tvm_rsq.quantize(classifier(), QuantConfig(scheme="per_channel"), calibration=noise(8, *small_network.SHAPE[1:]))
    device = RemoteDevice(tracker=tracker, key="cortex-a72", target=target, measure="instructions")
    with RemoteRunner(device, silent) as runner, pytest.raises(TargetError, match=f"fails there .*{why}.*name its own, as in KEY=TARGET"):
        tune_quantized(quantized, runner.spec, TuneConfig(trials=1, work_dir=tmp_path), runner=runner, machine=runner.machine)


def test_records_of_instructions_are_the_same_in_every_byte(tracker, tmp_path):
    quantized = tvm_rsq.quantize(classifier(), QuantConfig(scheme="per_channel"), calibration=noise(8, *small_network.SHAPE[1:]))
    for folder in ("first", "second"):
        with RemoteRunner(RemoteDevice(tracker=tracker, key="cortex-a76", measure="instructions"), silent) as runner:
            tuning = TuneConfig(trials=3, work_dir=tmp_path / folder)
            results = tune_quantized(quantized, runner.spec, tuning, runner=runner, machine=runner.machine)
        assert all(result.untuned_cost > 100 for result in results)
    for name in ("best.jsonl", "database_tuning_record.json", "database_workload.json"):
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()


def test_cycles_are_modelled_where_the_model_has_all_instructions(caplog):
    def chosen(target, **settings):
        device = RemoteDevice(tracker="127.0.0.1:1", key="max", target=target, **settings)
        return measuring(device, device.spec(), emulated=True)

    try:
        find_llvm_tools()
    except TargetError as error:
        pytest.skip(str(error))
    assert [chosen(target).measure for target in ("cortex-a53", "cortex-a72", "cortex-a76", "neoverse-n2")] == ["modelled-cycles"] * 4
    more = "llvm -mtriple=aarch64-linux-gnu -mcpu=neoverse-n1 -mattr=+i8mm"
    assert chosen(more).measure == "instructions" and chosen(more).cycles is None
    with pytest.raises(TargetError, match="the model of neoverse-n1 has no .*i8mm; name a CPU that has it"):
        chosen(more, measure="modelled-cycles")


def test_wall_time_of_an_emulated_board_is_refused(tracker, tmp_path):
    np.save(tmp_path / "photos.npy", noise(8, *small_network.SHAPE[1:]))
    with pytest.raises(DeviceError, match="is emulated: how long it takes says nothing of a real one"):
        tvm_rsq.quantize(classifier(), device=RemoteDevice(tracker=tracker, key="cortex-a76", measure="time"))
