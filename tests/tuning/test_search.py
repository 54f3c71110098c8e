"""The search on a machine whose times are known."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.tuning.fake_runner import BEST, SPACE, TableRunner, cost, network_task, spec
from tvm_rsq.errors import ConfigError
from tvm_rsq.targets.generic.tiles import Tile
from tvm_rsq.tune_config import TuneConfig
from tvm_rsq.tuning.tune import tune
from tvm_rsq.tuning.work_dir import open_work_dir, read_decisions

WORSE = Tile(step="any", lanes=8, cols=12, vecs=4, segment=1, outer="rows")


def run(folder, runner, *tasks, trials=60, space=SPACE, **settings):
    config = TuneConfig(trials=trials, work_dir=folder, **settings)
    return tune(tasks or (network_task(),), spec(space), config, runner=runner)


def test_the_model_finds_the_best_of_a_known_table_in_a_third_of_the_trials(tmp_path):
    (result,) = run(tmp_path, TableRunner())
    assert len(SPACE) == 168 and result.decision.choice == BEST
    assert result.decision.measured == 61  # and the untuned one
    assert result.cost < result.untuned_cost


def test_a_small_space_is_measured_whole(tmp_path):
    runner = TableRunner()
    (result,) = run(tmp_path, runner, space=SPACE[:5])
    assert {choice for _, choice in runner.asked[:4]} == set(SPACE[1:5]) and result.decision.measured == 5
    assert len(runner.asked) == 5  # the last one compares


def test_the_untuned_choice_stays_unless_another_is_faster(tmp_path):
    (result,) = run(tmp_path, TableRunner(), space=(BEST, WORSE))
    assert result.decision.choice == BEST and result.cost == result.untuned_cost


def test_a_space_of_one_needs_no_trial(tmp_path):
    (result,) = run(tmp_path, TableRunner(), space=(WORSE,))
    assert result.decision.choice == WORSE and result.decision.measured == 1 or result.cost > 0


def test_trials_go_where_the_time_is(tmp_path):
    small, large = network_task(height=2), network_task(height=28, uses=3)
    runner = TableRunner()
    run(tmp_path, runner, small, large, trials=40)
    asked = [task for task, _ in runner.asked]
    assert asked.count(large.task) > 4 * asked.count(small.task) > 0


@pytest.mark.parametrize(("measure", "scale"), [("time", 0.1), ("modelled-cycles", 80), ("instructions", 150)])
def test_all_tasks_have_their_turn_whatever_is_measured(tmp_path, measure, scale):
    tasks = [network_task(height=height, measure=measure) for height in (12, 13, 14)]
    runner = TableRunner(scale=scale)
    run(tmp_path, runner, *tasks, trials=30)
    tried = [sum(task == each.task for task, _ in runner.asked) for each in tasks]
    assert min(tried) > 5, tried


def test_the_order_is_a_function_of_the_seed(tmp_path):
    runners = [TableRunner() for _ in range(3)]
    for number, (runner, seed) in enumerate(zip(runners, (3, 3, 4), strict=True)):
        run(tmp_path / str(number), runner, network_task(), network_task(height=7), trials=30, seed=seed)
    assert runners[0].asked == runners[1].asked != runners[2].asked


def test_a_second_run_measures_only_what_is_missing(tmp_path):
    first = TableRunner(stop_after=20)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, first)
    # another speed of the machine, as after a reboot: what is on record stays comparable
    second = TableRunner(scale=1.7)
    (result,) = run(tmp_path, second)
    assert not {choice for _, choice in first.asked} & {choice for _, choice in second.asked[:40]}
    assert result.decision.choice == BEST and result.decision.measured == 61
    third = TableRunner()
    assert run(tmp_path, third) == (result,) and not third.asked


def test_equal_layers_of_another_network_reuse_records(tmp_path):
    run(tmp_path, TableRunner())
    runner = TableRunner()
    (result,) = run(tmp_path, runner, network_task(uses=2))
    assert not runner.asked and len(result.task.layers) == 2


def test_a_choice_that_cannot_be_made_is_recorded_and_left_out(tmp_path, caplog):
    runner = TableRunner(broken=frozenset({SPACE[2]}))
    (result,) = run(tmp_path, runner, space=SPACE[:4])
    assert "cannot be made" in caplog.text and result.decision.choice != SPACE[2]
    again = TableRunner()
    run(tmp_path, again, space=SPACE[:4])
    assert not again.asked


@pytest.mark.parametrize("name", ["database_tuning_record.json", "database_workload.json", "best.jsonl"])
def test_a_torn_last_line_is_survived(tmp_path, name):
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, TableRunner(stop_after=10))
    with (tmp_path / name).open("a") as file:
        file.write('[0, [[["GetSBl')
    runner = TableRunner()
    (result,) = run(tmp_path, runner)
    assert result.decision.measured == 61 and len(runner.asked) == 51
    assert read_decisions(tmp_path).get(result.task.task) == result.decision


def test_a_broken_line_elsewhere_is_named(tmp_path):
    (tmp_path / "best.jsonl").write_text("{]\n{}\n")
    with pytest.raises(ConfigError, match=r"best\.jsonl, line 1 is \{\], expected JSON"):
        run(tmp_path, TableRunner())


def test_a_second_tuner_waits_for_the_first_and_goes_on_from_its_records(tmp_path):
    said = threading.Event()
    runner = TableRunner()
    config = TuneConfig(trials=12, work_dir=tmp_path)
    with ThreadPoolExecutor(1) as pool:
        with open_work_dir(tmp_path, spec().tvm_target()) as first:
            told = lambda event: event.stage == "wait" and said.set()  # noqa: E731
            second = pool.submit(tune, (network_task(),), spec(), config, runner=runner, progress=told)
            assert said.wait(20) and not runner.asked and not second.done()
            for choice in SPACE[:8]:
                first.record(network_task().task, choice, cost(choice))
        (result,) = second.result(timeout=60)
    assert result.decision.measured == 13


KILLED = """
import sys, time
from tests.tuning.fake_runner import *
from tests.tuning.test_search import run
class Slow(TableRunner):
    def times(self, *args):
        time.sleep(0.02)
        return super().times(*args)
run(sys.argv[1], Slow())
"""


def test_a_killed_tuner_leaves_its_records(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)])
    records = tmp_path / "database_tuning_record.json"
    until = time.monotonic() + 60
    while not (records.exists() and records.read_bytes().count(b"\n") >= 5):
        assert process.poll() is None and time.monotonic() < until
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    runner = TableRunner()
    (result,) = run(tmp_path, runner)
    assert len(runner.asked) < 60 and result.decision.measured == 61
