"""How long a layer's kernel takes on a target, where that can be measured: on this machine, and written down for the next time."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
from statistics import median, quantiles
from typing import Protocol

from tvm_rsq.errors import ConfigError
from tvm_rsq.targets.choice import Choice
from tvm_rsq.targets.spec import TargetSpec, host_supports
from tvm_rsq.targets.workload import Conv2DWorkload
from tvm_rsq.threads import thread_count
from tvm_rsq.timed_target import TimedTarget
from tvm_rsq.tuning.measure_kernel import TimingRecords
from tvm_rsq.tuning.runner import LocalRunner, Runner
from tvm_rsq.tuning.task import Machine, TuningTask, this_machine, tuning_task
from tvm_rsq.tuning.trial import untuned_us

log = logging.getLogger(__name__)

_ROUNDS, _MOST_ROUNDS = 11, 44
_SPREAD = 0.15


def timings_path() -> Path:
    """Where times are kept, so that a machine makes the same plan again: the file $TVM_RSQ_TIMINGS, else ~/.cache/tvm_rsq/timings.jsonl."""
    named = os.environ.get("TVM_RSQ_TIMINGS")
    return Path(named).expanduser() if named else Path.home() / ".cache" / "tvm_rsq" / "timings.jsonl"


class PreparedRunner(Runner, Protocol):
    """A Runner that can be told what comes."""

    def prepare(self, wanted: Sequence[tuple[TuningTask, Choice]]) -> None: ...


def timed_target(
    spec: TargetSpec, records: TimingRecords | None = None, *, runner: PreparedRunner | None = None, machine: Machine | None = None
) -> TimedTarget | None:
    """The target with its kernels timed at the threads that a compiled network would use; None where this machine cannot run them.

    records          None: those of `timings_path`
    runner, machine  what measures kernels, and where; None: this machine, by its clock
    ConfigError: that file cannot be written, which is found out here and not after the long work.
    """
    if runner is None and (lacking := host_supports(spec)):
        log.info("%s does not run here (it lacks %s): granularity is decided, other levers are not used", spec.name, ", ".join(lacking[:4]))
        return None
    kept = _records() if records is None else records
    machine = machine or this_machine()
    task_of = partial(tuning_task, spec, threads=machine.threads or thread_count(), machine=machine)
    given = (spec, runner or LocalRunner(spec), task_of, kept)

    @cache
    def say_busy() -> None:  # once, not for every layer
        log.warning(
            "kernels' times differ from call to call: this machine is busy, and a plan made by them may not be the fastest; remove %s "
            "and quantize again when it is idle", kept.path,
        )  # fmt: skip

    cost = partial(_times_us, *given, say_busy)
    library, prepare = spec.library, partial(_prepare, *given)
    return TimedTarget(
        name=spec.name, levers=library.levers, carrier=library.carrier, cost=cost, measure=machine.measure, prepare=prepare
    )


def _records() -> TimingRecords:
    try:
        return TimingRecords(timings_path())
    except (OSError, RuntimeError) as error:  # RuntimeError: no home folder
        where, why = getattr(error, "filename", None) or "a file", getattr(error, "strerror", None) or error
        todo = "set TVM_RSQ_TIMINGS to a file that can be written"
        raise ConfigError(f"cannot keep the times of kernels in {where} ({why}); {todo}") from error


def _prepare(
    spec: TargetSpec, runner: PreparedRunner, task_of: Callable[[Conv2DWorkload], TuningTask], records: TimingRecords,
    workloads: Sequence[Conv2DWorkload],
) -> None:  # fmt: skip
    """Build the kernels that have no record, on all cores, which is most of what timing them takes."""
    tasks = dict.fromkeys(map(task_of, workloads))
    runner.prepare([(task, spec.library.conv2d_space(task.workload)[0]) for task in tasks if records.get(task) is None])


def _times_us(
    spec: TargetSpec, runner: Runner, task_of: Callable[[Conv2DWorkload], TuningTask], records: TimingRecords,
    say_busy: Callable[[], None], workloads: Sequence[Conv2DWorkload],
) -> list[float]:  # fmt: skip
    """As LayerCost: from `records`, or measured in turns with the first one and put there.

    A busy machine is slow for seconds at a time. The samples of one round are slowed alike, so a time is the first one's, from the record
    if it is there, times the median ratio of the rounds. Rounds go on while they disagree: what is written down counts for good.
    TargetError: a kernel cannot be built or run here.
    """
    tasks = list(map(task_of, workloads))
    first = tasks[0]
    unknown = [task for task in dict.fromkeys(tasks) if records.get(task) is None]
    if unknown:
        measured = list(dict.fromkeys([first, *unknown]))
        choices = {task: spec.library.conv2d_space(task.workload)[0] for task in measured}
        rounds: list[list[float]] = []
        while len(rounds) < _MOST_ROUNDS and not (rounds and _agree(rounds)):
            rounds += [[untuned_us(task, choices[task], runner, 1) for task in measured] for _ in range(_ROUNDS)]
        if not _agree(rounds):
            say_busy()
        if records.get(first) is None:
            records.put(first, None, min(samples[0] for samples in rounds))
        for i, task in enumerate(measured[1:], 1):
            records.put(task, None, records[first] * median(samples[i] / samples[0] for samples in rounds))
    return [records[task] for task in tasks]


def _agree(rounds: Sequence[Sequence[float]]) -> bool:
    """Whether the first one's least time was nearly reached by a quarter of its samples, and half of all ratios lie close together."""
    first = sorted(samples[0] for samples in rounds)
    if first[len(first) // 4] > (1 + _SPREAD) * first[0]:
        return False
    for i in range(1, len(rounds[0])):
        low, middle, high = quantiles([samples[i] / samples[0] for samples in rounds], n=4)
        if high - low > _SPREAD * middle:
            return False
    return True
