"""The time of one kernel, and a record of such times, so that a plan that depends on them comes out the same next time."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tvm_rsq.targets.choice import Choice, to_knobs
from tvm_rsq.targets.spec import TargetSpec
from tvm_rsq.targets.workload import Conv2DWorkload
from tvm_rsq.tuning.json_lines import append_line, read_lines
from tvm_rsq.tuning.runner import LocalRunner, Runner
from tvm_rsq.tuning.task import TuningTask, identity, tuning_task

_ROUNDS = 9


class TimingRecords:
    """Times in a file of JSON lines: {"task": {...}, "choice": {...} or null, "us": 12.3}. The last line of a task and choice counts.

    ConfigError: a line that is not JSON.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        self._times = {_key(line["task"], line["choice"]): float(line["us"]) for line in read_lines(self._path)}

    def get(self, task: TuningTask, choice: Choice | None = None) -> float | None:
        """Microseconds, None where it was never measured.   choice: None is whatever the untuned one is."""
        return self._times.get(_key(task.key(), _knobs(choice)))

    def put(self, task: TuningTask, choice: Choice | None, us: float) -> None:
        """Write a time, in microseconds."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        append_line(self._path, {"task": task.key(), "choice": _knobs(choice), "us": us})
        self._times[_key(task.key(), _knobs(choice))] = us


def kernel_time_us(
    spec: TargetSpec, workload: Conv2DWorkload, choice: Choice | None = None, *, threads: int = 1,
    records: TimingRecords | None = None, runner: Runner | None = None,
) -> float:  # fmt: skip
    """Microseconds of one call, the least of several samples with warm data and cold weights: from `records`, else measured and put there.

    choice  None: the untuned one
    runner  None: this machine
    TargetError: this machine cannot run the kernel. ValueError: a choice that does not fit the workload.
    """
    task = tuning_task(spec, workload, threads)
    known = records.get(task, choice) if records else None
    if known is not None:
        return known
    made = choice or spec.library.conv2d_space(task.workload)[0]
    us = min((runner or LocalRunner(spec)).times(task, [made], _ROUNDS)[0])
    if records:
        records.put(task, choice, us)
    return us


def _knobs(choice: Choice | None) -> dict[str, int | str] | None:
    return None if choice is None else to_knobs(choice)


def _key(task: Mapping[str, Any], knobs: Mapping[str, Any] | None) -> str:
    return identity({"task": task, "choice": knobs})
