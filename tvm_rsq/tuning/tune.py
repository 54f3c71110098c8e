"""Tuning: spend trials where they promise most, then settle every task by a fair duel with the untuned choice."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from tvm_rsq.progress import Progress, ProgressCallback, silent
from tvm_rsq.targets.choice import Choice, to_knobs
from tvm_rsq.targets.spec import TargetSpec
from tvm_rsq.tune_config import TuneConfig
from tvm_rsq.tuning.cost_model import CostModel
from tvm_rsq.tuning.decide import decide
from tvm_rsq.tuning.network_tasks import NetworkTask
from tvm_rsq.tuning.runner import LocalRunner, Runner
from tvm_rsq.tuning.search import TaskSearch, propose_together, teach
from tvm_rsq.tuning.task import describe
from tvm_rsq.tuning.trial import at_speed_of, trial, untuned_us
from tvm_rsq.tuning.work_dir import Decision, WorkDir, open_work_dir


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskResult:
    """What became of a task: `decision`, out of `space` choices, of which `untuned` needs no trial."""

    task: NetworkTask
    decision: Decision
    space: int
    untuned: Choice

    @property
    def shape(self) -> str:
        """The convolution in a few characters."""
        return describe(self.task.task.workload)

    @property
    def knobs(self) -> dict[str, int | str]:
        """Of the choice."""
        return to_knobs(self.decision.choice)

    @property
    def kept_untuned(self) -> bool:
        """Whether nothing beat the untuned choice."""
        return self.decision.choice == self.untuned

    @property
    def untuned_cost(self) -> float:
        """Of all layers of the task, in what was measured."""
        return self.decision.untuned_cost * len(self.task.layers)

    @property
    def cost(self) -> float:
        """Of all layers of the task, in what was measured."""
        return self.decision.cost * len(self.task.layers)


def tune(
    tasks: Sequence[NetworkTask], spec: TargetSpec, config: TuneConfig, *, runner: Runner | None = None, at_once: int = 1,
    progress: ProgressCallback = silent,
) -> tuple[TaskResult, ...]:  # fmt: skip
    """Measure until `config.trials` choices of these tasks are on record in `config.work_dir`, and decide. One result for each task.

    runner   None: this machine
    at_once  trials that it takes side by side, proposed together and recorded in that order, whichever ends first
    Every measurement is written at once: a tuner that was killed goes on where it was.
    Another tuner at work in the folder is waited for: two at once would slow down what they measure.
    TargetError: this machine cannot run the kernels, or an untuned one fails. ConfigError: the folder holds what tuners do not write.
    """
    runner = runner or LocalRunner(spec)
    waiting = partial(progress, Progress(stage="wait", done=0, total=1, detail=f"another tuner is at work in {config.work_dir}"))
    with open_work_dir(config.work_dir, spec.tvm_target(), waiting=waiting) as folder:
        searches = [_search(task, spec, folder) for task in tasks]
        _explore(searches, config, runner, at_once, folder, progress)
        return _settle(tasks, searches, runner, folder, progress)


def _search(task: NetworkTask, spec: TargetSpec, folder: WorkDir) -> TaskSearch:
    space = spec.library.conv2d_space(task.task.workload)
    return TaskSearch(task=task.task, space=space, uses=len(task.layers), measured=folder.measured(task.task))


def _explore(
    searches: Sequence[TaskSearch], config: TuneConfig, runner: Runner, at_once: int, folder: WorkDir, progress: ProgressCallback
) -> None:
    model = CostModel(config.seed)
    for search in searches:
        teach(model, search, search.measured)
    total = min(config.trials, sum(len(search.space) - 1 for search in searches))
    with _side_by_side(at_once) as submit:
        while (done := sum(search.trials for search in searches)) < total:
            proposed = propose_together(searches, model, config.seed, min(at_once, total - done))
            if not proposed:
                break
            tried = [submit(trial, search.task, search.untuned, choice, runner) for search, choice in proposed]
            for number, ((search, _), result) in enumerate(zip(proposed, tried, strict=True), done + 1):
                costs = at_speed_of(result(), search.untuned, search.measured.get(search.untuned))
                costs = {choice: folder.record(search.task, choice, cost) for choice, cost in costs.items()}
                search.measured.update(costs)
                teach(model, search, costs)
                progress(Progress(stage="tune", done=number, total=total, detail=_detail(search)))


@contextmanager
def _side_by_side(at_once: int) -> Iterator[Callable[..., Callable[[], dict[Choice, float]]]]:
    """A function that begins a call and answers another, which waits for its result. With one at once, all is done in this thread: TVM
    starts workers of its own for every thread that runs kernels.
    """
    if at_once == 1:
        yield partial
        return
    pool = ThreadPoolExecutor(at_once)
    try:
        yield lambda function, *arguments: pool.submit(function, *arguments).result
    finally:
        pool.shutdown(wait=False, cancel_futures=True)  # after Ctrl-C nobody waits for a board


def _settle(
    tasks: Sequence[NetworkTask], searches: Sequence[TaskSearch], runner: Runner, folder: WorkDir, progress: ProgressCallback
) -> tuple[TaskResult, ...]:
    decisions = folder.decisions()
    results = []
    for number, (task, search) in enumerate(zip(tasks, searches, strict=True), 1):
        decision = decisions.get(search.task)
        if decision is None or decision.measured != len(search.measured):
            if search.untuned not in search.measured:
                untuned = untuned_us(search.task, search.untuned, runner)
                search.measured[search.untuned] = folder.record(search.task, search.untuned, untuned)
            decision = decide(search.task, search.untuned, search.measured, runner)
            folder.decide(search.task, decision)
        results.append(TaskResult(task=task, decision=decision, space=len(search.space), untuned=search.untuned))
        progress(Progress(stage="compare", done=number, total=len(tasks), detail=describe(search.task.workload)))
    return tuple(results)


def _detail(search: TaskSearch) -> str:
    best = min(search.measured.values()) / search.measured[search.untuned]
    return f"{describe(search.task.workload)}  {best:.2f} of untuned"
