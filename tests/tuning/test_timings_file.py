"""The file of times: open before the long work, of a shape that is checked, and with one time for a key, whoever wrote it."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from tests.integer_case import noise
from tests.tiny_networks import classifier
from tests.tuning.fake_runner import SPACE, network_task
from tvm_rsq import ConfigError, quantize
from tvm_rsq.layer_cost import timed_target
from tvm_rsq.targets.parse import parse_target
from tvm_rsq.tuning.measure_kernel import TimingRecords

TASK = network_task().task
OTHER = replace(TASK, threads=2)


def line(us: object, task=TASK) -> str:
    return json.dumps({"task": task.key(), "choice": None, "us": us}) + "\n"


@pytest.mark.parametrize("where", ["a folder", "below a file", "where nothing can be made"])
def test_a_file_that_cannot_be_written_is_refused_before_the_long_work(tmp_path, monkeypatch, where):
    (tmp_path / "file").write_text("")
    path = {"a folder": tmp_path, "below a file": tmp_path / "file" / "t.jsonl", "where nothing can be made": "/proc/none/t.jsonl"}[where]
    monkeypatch.setenv("TVM_RSQ_TIMINGS", str(path))
    monkeypatch.setattr("tvm_rsq.api._load", lambda *_: pytest.fail("the network was read first"))
    with pytest.raises(ConfigError, match=r"cannot keep the times of kernels in .*; set TVM_RSQ_TIMINGS to a file that can be written"):
        quantize(classifier(), target="llvm", calibration=noise(1, 3, 16, 16))


def test_no_home_is_no_surprise(monkeypatch):
    monkeypatch.setenv("TVM_RSQ_TIMINGS", "~no-such-user/t.jsonl")
    with pytest.raises(ConfigError, match="set TVM_RSQ_TIMINGS to a file"):
        timed_target(parse_target("llvm"))


def test_nothing_is_kept_in_the_null_device():
    records = TimingRecords("/dev/null")
    assert records.put(TASK, None, 3.0) == 3.0 == records.get(TASK)


def test_the_first_line_of_a_key_counts(tmp_path):
    path = tmp_path / "t.jsonl"
    path.write_text(line(1.0) + line(2.0) + line(3.0, OTHER))
    records = TimingRecords(path)
    assert records.get(TASK) == 1.0 and records.get(OTHER) == 3.0
    assert records.put(TASK, None, 5.0) == 1.0 == records.get(TASK)
    assert path.read_text().count("\n") == 3


def test_what_another_process_wrote_first_counts_for_both(tmp_path):
    path = tmp_path / "t.jsonl"
    one, other = TimingRecords(path), TimingRecords(path)
    assert one.put(TASK, None, 1.0) == 1.0 and other.get(TASK) is None
    assert other.put(TASK, None, 2.0) == 1.0 == other.get(TASK)
    assert other.put(TASK, SPACE[1], 4.0) == 4.0 and one.put(TASK, SPACE[1], 5.0) == 4.0
    assert TimingRecords(path).get(TASK) == 1.0 and path.read_text().count("\n") == 2


def test_all_who_append_at_once_agree(tmp_path):
    path = tmp_path / "t.jsonl"
    tasks = [replace(TASK, threads=n) for n in range(1, 21)]

    def measure(number: int) -> list[float]:
        records = TimingRecords(path)
        return [records.put(task, None, 1.0 + number) for task in (tasks if number % 2 else tasks[::-1])][:: 1 if number % 2 else -1]

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(measure, range(8)))
    kept = TimingRecords(path)
    assert all(times == [kept.get(task) for task in tasks] for times in found)
    assert path.read_text().count("\n") == len(tasks)


def test_a_torn_last_line_is_none(tmp_path):
    path = tmp_path / "t.jsonl"
    path.write_text(line(1.0) + line(2.0, OTHER)[:40])
    records = TimingRecords(path)
    assert records.get(TASK) == 1.0 and records.get(OTHER) is None
    assert records.put(OTHER, None, 7.0) == 7.0
    assert path.read_text().count("\n") == 2 and TimingRecords(path).get(OTHER) == 7.0


def test_a_file_that_was_emptied_meanwhile_is_written_anew(tmp_path):
    path = tmp_path / "t.jsonl"
    records = TimingRecords(path)
    records.put(TASK, None, 1.0)
    path.write_text("")
    assert records.put(OTHER, None, 2.0) == 2.0 and TimingRecords(path).get(OTHER) == 2.0


@pytest.mark.parametrize(
    "text",
    [
        "3", "null", '"us"', "[1, 2]", "{}", '{"task": {}}', '{"task": [], "choice": null, "us": 1}', '{"task": {}, "choice": 3, "us": 1}',
        '{"task": {}, "us": 1}', '{"task": {}, "choice": null, "us": "1"}', '{"task": {}, "choice": null, "us": true}',
        '{"task": {}, "choice": null, "us": 0}', '{"task": {}, "choice": null, "us": Infinity}', '{"task": {}, "choice": null, "us": NaN}',
    ],
)  # fmt: skip
def test_a_line_of_another_shape_is_named(tmp_path, text):
    path = tmp_path / "t.jsonl"
    path.write_text(line(1.0) + text + "\n")
    with pytest.raises(
        ConfigError, match=r't\.jsonl, line 2 is .*, expected \{"task": .*"us": .*\}; remove that line, or the file'
    ) as found:
        TimingRecords(path)
    assert "\n" not in str(found.value)


def test_a_line_of_another_shape_that_came_meanwhile_is_named(tmp_path):
    path = tmp_path / "t.jsonl"
    records = TimingRecords(path)
    records.put(TASK, None, 1.0)
    with path.open("a") as file:
        file.write("{}\n")
    with pytest.raises(ConfigError, match=r"t\.jsonl, line 2 is \{\}"):
        records.put(OTHER, None, 1.0)


def test_a_time_that_is_none_is_not_written(tmp_path):
    records = TimingRecords(tmp_path / "t.jsonl")
    with pytest.raises(ValueError, match="expected .*us"):
        records.put(TASK, None, float("inf"))
    assert (tmp_path / "t.jsonl").read_text() == ""
