"""`tvm-rsq bench --device`: checked, then measured; rows as they come; what goes wrong takes nothing else with it."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

from tests import small_network
from tests.integer_case import noise
from tests.remote.faulty_kernels import faulty_library
from tests.remote.local_fleet import local_fleet
from tests.report.report_sample import device_rows
from tests.tiny_networks import classifier
from tvm_rsq.cli.app import app
from tvm_rsq.remote import check_answer, remote_network
from tvm_rsq.remote.remote_network import RemoteNetwork
from tvm_rsq.remote.row_file import RowFile

MODEL = "tests.remote.test_bench_devices:network"
BUILDS = ["hybrid", "per-channel", "FP32"]
TWO = ("--builds", "per-channel,FP32")  # where it matters not which: every build is compiled, for the board and for here
NOTHING = {"latency_us": None, "instructions": None, "modelled_cycles": None}


def network():
    return classifier(), None


@pytest.fixture(scope="module")
def fleet():
    with local_fleet() as made:
        made.board("real")
        made.board("emulated", "--counts")
        yield made


@pytest.fixture(autouse=True)
def _short(monkeypatch, tmp_path):
    """Patience for boards that are gone; the command line's is for users."""
    monkeypatch.setenv("TVM_RSQ_TIMINGS", str(tmp_path / "times.jsonl"))
    monkeypatch.setattr("tvm_rsq.remote.device.PATIENCE_S", 3.0)
    np.save(tmp_path / "photos.npy", noise(8, *small_network.SHAPE[1:]))


@pytest.fixture
def bench(fleet, tmp_path):
    def run(*arguments: object, model: object = MODEL, data: bool = True):
        common = ["--tracker", fleet.tracker.address, "--json", tmp_path / "rows.json", "--repeat", 5, "--warmup", 2, "--threads", 1]
        words = ["bench", *(model if isinstance(model, list) else [model]), *common, *arguments]
        if data:
            words += ["--calibration", tmp_path / "photos.npy", *([] if "--levers" in arguments else ["--levers", "none"])]
        done = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
        rows = json.loads((tmp_path / "rows.json").read_text())["rows"] if (tmp_path / "rows.json").exists() else []
        return done, rows

    return run


def test_rows_of_two_devices(bench, tmp_path):
    done, rows = bench("--device", "real=llvm,emulated=llvm", "--report", tmp_path / "report.html")
    assert done.exit_code == 0, done.stderr
    record = json.loads((tmp_path / "rows.json").read_text())
    assert record["schema"] == 1 and record["failed"] == {}
    assert [(row["device"], row["build"]) for row in rows] == [(key, build) for key in ("real", "emulated") for build in BUILDS]
    assert all(row["bit_exact"] and row["error"] is None and row["target"] == "llvm" for row in rows)
    assert [row["divergence"] is None for row in rows] == [False, False, True] * 2
    for row in rows[:3]:
        assert len(row["latency_us"]) == 5 and min(row["latency_us"]) > 0 and row["instructions"] is row["modelled_cycles"] is None
    for row in rows[3:]:
        assert row["instructions"] > 1000 and row["latency_us"] is None and row["measure"] == "instructions"
    assert "vs per-channel" in done.stdout and "emulated boards, whose counts and modelled cycles are no latency: emulated" in done.stdout
    page = (tmp_path / "report.html").read_text()
    assert "<h2>Devices</h2>" in page and "emulated, instructions" in page and "bit-exact" in page


def test_one_plan_serves_all_devices(bench, monkeypatch):
    plans, plan = [], small_network.quantized()
    monkeypatch.setattr("tvm_rsq.api.quantize", lambda *_args, device=None, **_kw: plans.append(device) or plan)
    bench("--device", "real=llvm,emulated=llvm", "--builds", "hybrid", "--levers", "auto")
    assert [device.key for device in plans] == ["real"]
    plans.clear()
    bench("--device", "real=llvm,emulated=llvm", "--builds", "hybrid", "--levers", "auto", "--plan", "each")
    assert [device.key for device in plans] == ["real", "emulated"]


def test_a_second_run_goes_on_where_the_first_was(bench, fleet, tmp_path):
    first, before = bench("--device", "real=llvm", *TWO)
    path = tmp_path / "rows.json"
    path.write_text(json.dumps({"schema": 1, "rows": before[:1]}))
    again, rows = bench("--device", "real=llvm,emulated=llvm", *TWO)
    assert first.exit_code == again.exit_code == 0, again.stderr
    assert rows[0] == before[0] and rows[1]["latency_us"] != before[1]["latency_us"] and len(rows) == 4


def test_only_the_same_measurement_is_taken_for_this_one(tmp_path):
    row = device_rows()[0]  # three latencies
    RowFile(tmp_path / "rows.json").keep(row)
    kept = RowFile(tmp_path / "rows.json")
    assert kept.known(replace(row, latency_us=None), repeat=3) == row
    assert kept.known(row, repeat=4) is None
    for change in ({"artifact": "another"}, {"threads": 1}, {"device": "another"}, {"build": "FP32"}, {"measure": "instructions"}):
        assert kept.known(replace(row, **change), repeat=3) is None, change
    kept.keep(replace(row, error="cut short"))
    assert kept.known(row, repeat=3) is None and len(kept.rows) == 1


def test_a_wrong_answer_has_no_latency(bench, monkeypatch):
    original = RemoteNetwork.run

    def wrong(self, *inputs):
        found = original(self, *inputs)
        return tuple(np.nextafter(part, np.inf, dtype=part.dtype) for part in found)

    monkeypatch.setattr(RemoteNetwork, "run", wrong)
    done, rows = bench("--device", "real=llvm,emulated=llvm", *TWO)
    assert done.exit_code == 1 and done.stderr.splitlines()[-1].startswith("error: real per-channel, emulated per-channel: 8 of 8 output")
    for row in rows:
        assert row["bit_exact"] is False
        if row["build"] == "FP32":  # one unit in the last place is right enough, and said not to be exact
            assert row["error"] is None and (row["latency_us"] or row["instructions"])
        else:
            assert "are wrong" in row["error"] and row | NOTHING == row


def test_the_answer_is_compared_bit_by_bit():
    same, zero = np.array([1.0, 0.0], np.float32), np.array([1.0, -0.0], np.float32)
    assert check_answer.check_answer([same], [same], exact=True).bit_exact
    assert check_answer.check_answer([zero], [same], exact=True).wrong
    assert check_answer.check_answer([zero], [same], exact=False) == check_answer.Answer(bit_exact=False)
    assert check_answer.check_answer([same * np.float32(1.01)], [same], exact=False).wrong
    assert check_answer.check_answer([np.array([np.nan, 0], np.float32)], [same], exact=False).wrong
    assert check_answer.check_answer([same[:1]], [same], exact=False).wrong


def test_a_board_that_dies_mid_benchmark_takes_no_other_with_it(bench, fleet, monkeypatch):
    board = fleet.board("mortal")
    original, calls = RemoteNetwork.time_us, []

    def dying(self):
        calls.append(1)
        if len(calls) == 2 * (2 + 2) + 1:  # warm-up and two whole rounds of two builds are over
            fleet.kill(board)
        return original(self)

    monkeypatch.setattr(remote_network.RemoteNetwork, "time_us", dying)
    done, rows = bench("--device", "mortal=llvm,emulated=llvm", *TWO)
    assert done.exit_code == 1 and done.stderr.splitlines()[-1].startswith("error: mortal: board mortal at 127.0.0.1:")
    assert [len(row["latency_us"]) for row in rows[:2]] == [2, 2] and all("ended the session" in row["error"] for row in rows[:2])
    assert [row["device"] for row in rows[2:]] == ["emulated"] * 2 and all(row["instructions"] for row in rows[2:])
    monkeypatch.setattr(remote_network.RemoteNetwork, "time_us", original)
    fleet.board("mortal")
    done, rows = bench("--device", "mortal=llvm,emulated=llvm", *TWO)
    assert done.exit_code == 0 and all(len(row["latency_us"]) == 5 and row["error"] is None for row in rows[:2])


def test_a_kernel_that_hangs_costs_its_device_and_no_other(bench, monkeypatch, tmp_path):
    library, original, calls = faulty_library(tmp_path).read_bytes(), RemoteNetwork.time_us, []

    def hanging(self):
        calls.append(1)
        if len(calls) == 2 * (2 + 2) + 1:  # as above
            self._session.do(lambda _rpc: self._session.load(library)["hang"]())
        return original(self)

    monkeypatch.setattr(RemoteNetwork, "time_us", hanging)
    done, rows = bench("--device", "real=llvm,emulated=llvm", *TWO, "--session-timeout", 6)
    assert done.exit_code == 1 and "session has expired" in done.stderr.splitlines()[-1]
    assert [len(row["latency_us"]) for row in rows[:2]] == [2, 2] and all("session has expired" in row["error"] for row in rows[:2])
    assert [row["device"] for row in rows[2:]] == ["emulated"] * 2 and all(row["instructions"] for row in rows[2:])


def test_what_goes_wrong_between_rounds_ends_one_device_in_one_line(bench, monkeypatch):
    original, calls = RemoteNetwork.time_us, []

    def failing(self):
        calls.append(1)
        if len(calls) == 3 * (2 + 2) + 1:  # warm-up and two whole rounds of three builds are over
            raise RuntimeError("Traceback of TVM's\nno memory left")
        return original(self)

    monkeypatch.setattr(remote_network.RemoteNetwork, "time_us", failing)
    done, rows = bench("--device", "real=llvm,emulated=llvm")
    assert done.exit_code == 1 and done.stderr.splitlines()[-1] == "error: real: device real: no memory left"
    assert [len(row["latency_us"]) for row in rows[:3]] == [2, 2, 2] and all(row["error"] == "no memory left" for row in rows[:3])
    assert [row["device"] for row in rows[3:]] == ["emulated"] * 3 and all(row["instructions"] for row in rows[3:])


def test_a_full_disk_ends_one_device_in_one_line(bench, fleet):
    fleet.board("full", "--largest-file", "4096")
    done, rows = bench("--device", "full=llvm,emulated=llvm", "--builds", "per-channel")
    assert done.exit_code == 1 and "full: board full at" in done.stderr and "room" in done.stderr.splitlines()[-1]
    assert [row["device"] for row in rows] == ["emulated"]


def test_no_such_key_is_said_before_the_long_work(bench, monkeypatch):
    monkeypatch.setattr("tvm_rsq.api.quantize", lambda *_args, **_kw: pytest.fail("the network was quantized first"))
    done, rows = bench("--device", "real=llvm,typo=llvm")
    assert done.exit_code == 1 and "no board typo at the tracker" in done.stderr and done.stderr.count("\n") == 1 and not rows


def test_artifacts_are_measured_where_they_fit(bench, tmp_path):
    quantized = small_network.quantized()
    quantized.compile("llvm").save(tmp_path / "here.rsq")
    quantized.compile("cortex-a76").save(tmp_path / "arm.rsq")
    done, rows = bench("--device", "emulated=llvm", model=[tmp_path / "here.rsq", tmp_path / "arm.rsq"], data=False)
    assert done.exit_code == 0, done.stderr
    assert [(row["build"], row["instructions"] > 0) for row in rows] == [(str(tmp_path / "here.rsq"), True)]
    done, _ = bench("--device", "emulated=cortex-a76", model=[tmp_path / "here.rsq"], data=False)
    assert done.exit_code == 1 and "no artifact is for emulated (cortex-a76)" in done.stderr


def test_a_file_that_holds_something_else_is_kept(tmp_path):
    (tmp_path / "rows.json").write_text('{"schema": 1, "builds": []}')
    words = ["bench", MODEL, "--device", "real=llvm", "--tracker", "127.0.0.1:9", "--json", str(tmp_path / "rows.json")]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 1 and "holds no rows of a benchmark on devices" in done.stderr
    assert (tmp_path / "rows.json").read_text() == '{"schema": 1, "builds": []}'


@pytest.mark.parametrize(
    "words", [["--target", "llvm"], ["--fp32", MODEL], ["--layers"], ["--builds", "int8"], ["--device", "real,real"]]
)
def test_options_that_make_no_sense_are_refused(words):
    common = ["bench", MODEL, "--device", "real=llvm", "--tracker", "127.0.0.1:9"]
    assert CliRunner().invoke(app, [*common, *words]).exit_code == 2
