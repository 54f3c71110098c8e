"""Times of kernels: measured in turns against the first, from the record ever after."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest

from tvm_rsq import layer_cost
from tvm_rsq.errors import TargetError
from tvm_rsq.layer_cost import timed_target, timings_path
from tvm_rsq.targets.parse import parse_target
from tvm_rsq.targets.workload import Conv2DWorkload
from tvm_rsq.threads import thread_count
from tvm_rsq.tuning import runner
from tvm_rsq.tuning.measure_kernel import TimingRecords
from tvm_rsq.tuning.runner import LocalRunner
from tvm_rsq.tuning.task import tuning_task

FIRST = Conv2DWorkload(batch=1, height=4, width=4, in_channels=8, out_channels=8, kernel=(1, 1))
BLOCKS = replace(FIRST, accumulate16=1)


@dataclass
class SlowingMachine:
    """Takes 10 us, or 6 for blocks, and every round longer."""

    spec: object
    calls: list[Conv2DWorkload] = field(default_factory=list)

    def times(self, task, choices, rounds):
        assert len(choices) == rounds == 1
        self.calls.append(task.workload)
        load = 1 + (len(self.calls) - 1) // 2
        return [[load * (6.0 if task.workload.accumulate16 else 10.0)]]


def test_ratios_of_one_round_and_no_second_measurement(tmp_path, monkeypatch):
    machines = []
    monkeypatch.setattr(layer_cost, "LocalRunner", lambda spec: machines.append(SlowingMachine(spec)) or machines[-1])
    records = TimingRecords(tmp_path / "t.jsonl")
    cost = timed_target(parse_target("llvm"), records).cost
    assert cost([FIRST, BLOCKS, FIRST]) == pytest.approx([10.0, 6.0, 10.0])
    asked = len(machines[0].calls)
    assert machines[0].calls[:4] == [FIRST, BLOCKS, FIRST, BLOCKS], "in turns"
    assert timed_target(parse_target("llvm"), TimingRecords(tmp_path / "t.jsonl")).cost([BLOCKS, FIRST]) == pytest.approx([6.0, 10.0])
    assert len(machines[0].calls) == asked and machines[1].calls == []


@dataclass
class DisturbedMachine:
    """Takes 10 us, or 6 for blocks, and five times as long in most of the first 11 rounds, whichever kernel it is at."""

    spec: object
    calls: int = 0

    def times(self, task, _choices, _rounds):
        self.calls += 1
        slow = 5 if self.calls < 22 and self.calls % 5 else 1
        return [[slow * (6.0 if task.workload.accumulate16 else 10.0)]]


def test_rounds_go_on_while_they_disagree(tmp_path, monkeypatch, caplog):
    machines = []
    monkeypatch.setattr(layer_cost, "LocalRunner", lambda spec: machines.append(DisturbedMachine(spec)) or machines[-1])
    records = TimingRecords(tmp_path / "t.jsonl")
    assert timed_target(parse_target("llvm"), records).cost([FIRST, BLOCKS]) == pytest.approx([10.0, 6.0])
    assert 22 < machines[0].calls < 88
    assert not caplog.records
    monkeypatch.setattr(layer_cost, "LocalRunner", SlowingMachine)
    timed_target(parse_target("llvm"), TimingRecords(tmp_path / "u.jsonl")).cost([FIRST, BLOCKS])
    assert caplog.text.count("this machine is busy") == 1


def test_a_kernel_that_fails_is_said_in_one_line(tmp_path, monkeypatch):
    class Broken(SlowingMachine):
        def times(self, task, choices, rounds):
            if task.workload.accumulate16:
                raise RuntimeError("cannot\nbe built")
            return super().times(task, choices, rounds)

    monkeypatch.setattr(layer_cost, "LocalRunner", Broken)
    records = TimingRecords(tmp_path / "t.jsonl")
    with pytest.raises(TargetError, match=r"the untuned kernel of 1x1 4x4 8->8 fails here \(cannot be built\); please report"):
        timed_target(parse_target("llvm"), records).cost([FIRST, BLOCKS])
    assert (tmp_path / "t.jsonl").read_text() == ""


def test_a_target_that_does_not_run_here_is_not_timed():
    assert timed_target(parse_target("aarch64")) is None


def test_where_times_are_kept(monkeypatch):
    monkeypatch.setenv("TVM_RSQ_TIMINGS", "/somewhere/t.jsonl")
    assert str(timings_path()) == "/somewhere/t.jsonl"
    monkeypatch.delenv("TVM_RSQ_TIMINGS")
    assert timings_path().name == "timings.jsonl"


def test_a_real_kernel_takes_time(tmp_path):
    first, second = timed_target(parse_target("llvm"), TimingRecords(tmp_path / "t.jsonl")).cost([FIRST, replace(FIRST, out_channels=16)])
    assert 0 < first < 1e5 and 0 < second < 1e5


def test_kernels_that_have_no_record_are_built_beforehand(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(LocalRunner, "prepare", lambda _self, wanted: asked.extend(task.workload for task, _ in wanted))
    spec, records = parse_target("llvm"), TimingRecords(tmp_path / "t.jsonl")
    timed = timed_target(spec, records)
    timed.prepare([FIRST, BLOCKS, FIRST])
    assert asked == [FIRST, BLOCKS]
    records.put(tuning_task(spec, FIRST, thread_count()), None, 10.0)
    timed.prepare([FIRST, BLOCKS])
    assert asked == [FIRST, BLOCKS, BLOCKS]


def test_a_kernel_that_was_built_beforehand_is_not_built_again(monkeypatch):
    spec = parse_target("llvm")
    task = tuning_task(spec, FIRST, 1)
    choice = spec.library.conv2d_space(FIRST)[0]
    built = []
    monkeypatch.setattr(runner, "_compile", lambda *args, make=runner._compile: built.append(args) or make(*args))
    local = LocalRunner(spec)
    local.prepare([(task, choice), (task, choice)])
    local.prepare([(task, choice)])
    assert local.times(task, [choice], 2)[0][1] > 0 and len(built) == 1


def test_what_cannot_be_built_beforehand_is_left_for_its_turn(monkeypatch):
    def broken(*_):
        raise RuntimeError("no")

    spec = parse_target("llvm")
    task, choice = tuning_task(spec, FIRST, 1), spec.library.conv2d_space(FIRST)[0]
    monkeypatch.setattr(runner, "_compile", broken)
    local = LocalRunner(spec)
    local.prepare([(task, choice)])
    with pytest.raises(RuntimeError, match="no"):
        local.times(task, [choice], 1)
