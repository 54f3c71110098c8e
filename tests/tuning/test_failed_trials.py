"""What cannot be built or run: on record as failed, never chosen, and never a time."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest

from tests.tuning.fake_runner import BEST, SPACE, TableRunner, network_task, spec
from tests.tuning.test_search import run
from tvm_rsq.errors import TargetError
from tvm_rsq.tuning.runner import FailedOnBoard
from tvm_rsq.tuning.search import TaskSearch
from tvm_rsq.tuning.tune import TaskResult
from tvm_rsq.tuning.work_dir import Decision, open_work_dir

TASK = network_task()
UNTUNED, *OTHERS = SPACE[:4]


def best_lines(folder):
    return [json.loads(line) for line in (folder / "best.jsonl").read_text().splitlines()]


def measured(folder):
    with open_work_dir(folder, spec().tvm_target()) as opened:
        return opened.measured(TASK.task)


def test_a_first_trial_that_fails_leaves_the_untuned_choice_with_a_time(tmp_path):
    (result,) = run(tmp_path, TableRunner(broken=frozenset(OTHERS)), trials=1, space=SPACE[:4])
    assert result.kept_untuned and result.decision.choice == UNTUNED
    assert math.isfinite(result.cost) and result.cost == result.untuned_cost
    (line,) = best_lines(tmp_path)
    assert math.isfinite(line["us"]) and math.isfinite(line["untuned_us"])
    found = measured(tmp_path)
    assert math.isfinite(found.pop(UNTUNED)) and list(found.values()) == [math.inf]


def test_all_trials_that_fail_leave_the_untuned_choice_with_a_time(tmp_path):
    (result,) = run(tmp_path, TableRunner(broken=frozenset(OTHERS)), space=SPACE[:4])
    assert result.kept_untuned and math.isfinite(result.cost) and result.decision.measured == 4
    assert [value for value in measured(tmp_path).values() if math.isinf(value)] == [math.inf] * 3


@pytest.mark.parametrize("count", [1, 6])
def test_failed_trials_promise_no_gain(count):
    """On record without the untuned choice, as earlier versions left them."""
    search = TaskSearch(task=TASK.task, space=SPACE, uses=1, measured=dict.fromkeys(SPACE[1 : 1 + count], math.inf))
    assert 0 < search.gain() < TaskSearch(task=TASK.task, space=SPACE, uses=1).gain()


def test_a_failure_that_happens_once_is_none(tmp_path):
    """Ctrl-C inside one of TVM's callbacks looks like one."""

    class Interrupted(TableRunner):
        def times(self, task, choices, rounds):
            if len(self.asked) == 1:
                self.asked.append((task, choices[-1]))
                raise RuntimeError
            return super().times(task, choices, rounds)

    run(tmp_path, Interrupted(), trials=2, space=SPACE[:4])
    found = measured(tmp_path)
    assert len(found) == 3 and all(map(math.isfinite, found.values()))


def test_an_untuned_kernel_that_fails_is_said_in_one_line(tmp_path):
    with pytest.raises(TargetError, match=r"the untuned kernel of 1x1 14x14 16->32 fails here \(does not fit\); please report") as found:
        run(tmp_path, TableRunner(broken=frozenset({UNTUNED})), space=SPACE[:4])
    assert "\n" not in str(found.value) and not (tmp_path / "best.jsonl").exists()
    assert measured(tmp_path) == {}, "the others did not fail"
    (result,) = run(tmp_path, TableRunner(), space=SPACE[:4])
    assert result.decision.measured == 4


def test_an_untuned_kernel_that_fails_on_a_board_asks_what_the_board_is(tmp_path):
    class Board(TableRunner):
        def times(self, task, choices, rounds):
            raise FailedOnBoard("the session died of SIGILL")

    with pytest.raises(TargetError, match=r"fails there \(the session died of SIGILL\); if the board is not .* as in KEY=TARGET"):
        run(tmp_path, Board(), space=(UNTUNED,))


def test_an_untuned_kernel_that_fails_alone_is_said_in_one_line(tmp_path):
    with pytest.raises(TargetError, match="the untuned kernel of"):
        run(tmp_path, TableRunner(broken=frozenset({UNTUNED})), space=(UNTUNED,))


def test_a_challenger_that_fails_in_the_duel_is_not_chosen(tmp_path, caplog):
    space = (UNTUNED, BEST, SPACE[5])
    (result,) = run(tmp_path, TableRunner(broken_late=(2, frozenset({BEST}))), space=space)
    assert result.decision.choice == SPACE[5] and "cannot be made" in caplog.text and math.isfinite(result.cost)


def test_the_untuned_choice_is_told_by_the_choice_and_not_by_its_time():
    decision = Decision(choice=BEST, cost=5.0, untuned_cost=5.0, measured=2)
    result = TaskResult(task=TASK, decision=decision, space=2, untuned=UNTUNED)
    assert not result.kept_untuned
    assert replace(result, decision=replace(decision, choice=UNTUNED, cost=4.0)).kept_untuned
