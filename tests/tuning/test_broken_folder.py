"""Files of a tuning folder that hold JSON of another shape are named, with the line."""

from __future__ import annotations

import json

import pytest

from tests.tuning.fake_runner import SPACE, TableRunner, network_task, spec
from tests.tuning.test_search import run
from tvm_rsq.errors import ConfigError
from tvm_rsq.tuning.work_dir import check_work_dir, open_work_dir, read_decisions

BEST, WORKLOADS, RECORDS = "best.jsonl", "database_workload.json", "database_tuning_record.json"
TASK = network_task().task


@pytest.fixture
def folder(tmp_path):
    run(tmp_path, TableRunner(), trials=2, space=SPACE[:3])
    return tmp_path


def add(path, text):
    with path.open("a") as file:
        file.write(text + "\n")


GOOD = {"task": TASK.key(), "choice": {"algorithm": "direct"}, "us": 1.0, "untuned_us": 1.0, "measured": 1}


@pytest.mark.parametrize(
    "change",
    [
        {"task": "conv"}, {"choice": None}, {"choice": {"lanes": [8]}}, {"us": float("inf")}, {"untuned_us": None}, {"us": 0},
        {"measured": 1.5}, None,
    ],
)  # fmt: skip
def test_a_decision_of_another_shape(folder, change):
    add(folder / BEST, json.dumps([1] if change is None else {**GOOD, **change}))
    with pytest.raises(ConfigError, match=r'best\.jsonl, line 2 is .*, expected \{"task".*; remove that line, or the file'):
        read_decisions(folder)


def test_a_decision_for_a_choice_that_is_none(folder):
    for number, knobs in enumerate([{"algorithm": "magic"}, {"algorithm": "direct", "lanes": 8}], 2):
        add(folder / BEST, json.dumps({**GOOD, "choice": knobs}))
        with pytest.raises(ConfigError, match=rf"best\.jsonl, line {number}: .*tune again, without that line"):
            read_decisions(folder).get(TASK)


@pytest.mark.parametrize("text", ["{}", "[]", '["1"]', '[1, "x"]', '["1", "not base64"]'])
def test_a_workload_of_another_shape(folder, text):
    add(folder / WORKLOADS, text)
    with pytest.raises(ConfigError, match=r"database_workload\.json(, line 2 is .*, expected|.* cannot be read).*remove"):
        run(folder, TableRunner(), trials=2, space=SPACE[:3])


@pytest.mark.parametrize(
    "text",
    [
        "{}", "[]", "[0]", '[0, ["a", "b", {}, 3]]', '[7, [[], [1.0], {}, []]]', '[0, [[], [], {}, []]]', '[0, [[], ["1"], {}, []]]',
        '[true, [[], [1.0], {}, []]]', '[0, [[[], []], [1.0], {"kind": "nope"}, []]]',
    ],
)  # fmt: skip
def test_a_measurement_of_another_shape(folder, text):
    add(folder / RECORDS, text)
    with pytest.raises(ConfigError, match=r"database_tuning_record\.json(, line 4 is .*, expected|.* cannot be read).*remove"):
        run(folder, TableRunner(), trials=2, space=SPACE[:3])


def test_a_measurement_of_a_choice_that_is_none(folder):
    path = folder / RECORDS
    path.write_text(path.read_text().replace("direct", "magic"))
    with pytest.raises(ConfigError, match=r"database_tuning_record\.json .*magic.*remove"):
        run(folder, TableRunner(), trials=2, space=SPACE[:3])


def test_of_two_measurements_of_one_choice_the_slower_counts(folder):
    target = spec().tvm_target()
    with open_work_dir(folder, target) as opened:
        for us in (1e6, 1.0):
            opened.record(TASK, SPACE[1], us)
    with open_work_dir(folder, target) as opened:
        assert opened.measured(TASK)[SPACE[1]] == pytest.approx(1e6)


def test_a_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "below", "/proc/none"):
        with pytest.raises(ConfigError, match=r"cannot tune in .* \(.*\); give a folder that can be written"):
            check_work_dir(path)
    check_work_dir(tmp_path / "new" / "folder")
    assert not (tmp_path / "new").exists()
    with open_work_dir(tmp_path / "new", spec().tvm_target()):
        check_work_dir(tmp_path / "new")  # the tuner that comes later waits
        with pytest.raises(ConfigError, match="another tuner is at work"), open_work_dir(tmp_path / "new", spec().tvm_target()):
            pass
