"""The time of one kernel, and a record of such times, so that a plan that depends on them comes out the same next time.

Or another cost, where the task says that it was measured otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from tvm_rsq.targets.choice import Choice, to_knobs
from tvm_rsq.targets.spec import TargetSpec
from tvm_rsq.targets.workload import Conv2DWorkload
from tvm_rsq.tuning.json_lines import LineReader, open_locked, write_line
from tvm_rsq.tuning.line_shapes import cost_name, timing
from tvm_rsq.tuning.runner import LocalRunner, Runner
from tvm_rsq.tuning.task import TuningTask, identity, tuning_task

_ROUNDS = 9


class TimingRecords:
    """Costs in a file of JSON lines: {"task": {...}, "choice": {...} or null, "us": 12.3}, or "cost" in place of "us" where the task names
    another measure than time. The first line of a task and choice counts, for
    all who read it, then and later: where two processes measure the same at once, both go on with what was written first.

    OSError: the file cannot be made or written. ConfigError: a line of another shape.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._reader = LineReader(self.path, timing)
        self._times: dict[str, float] = {}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with open_locked(self.path) as file:
            self._take_in(file)

    def get(self, task: TuningTask, choice: Choice | None = None) -> float | None:
        """In what the task measures, None where it never was.   choice: None is whatever the untuned one is."""
        return self._times.get(_key(task.key(), _knobs(choice)))

    def __getitem__(self, task: TuningTask) -> float:
        """Of the untuned choice.   KeyError: it never was measured."""
        return self._times[_key(task.key(), _knobs(None))]

    def put(self, task: TuningTask, choice: Choice | None, cost: float) -> float:
        """Write a cost, in what the task measures, unless there is one by now; the one that counts.   ValueError: no number above 0."""
        line = timing({"task": task.key(), "choice": _knobs(choice), cost_name(task.key()): cost})
        key = _key(line["task"], line["choice"])
        with open_locked(self.path) as file:
            self._take_in(file)
            if key not in self._times:
                write_line(file, line)
                self._times[key] = cost
        return self._times[key]

    def _take_in(self, file: BinaryIO) -> None:
        for line in self._reader.read(file):
            self._times.setdefault(_key(line["task"], line["choice"]), float(line[cost_name(line["task"])]))


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
    return us if records is None else records.put(task, choice, us)


def _knobs(choice: Choice | None) -> dict[str, int | str] | None:
    return None if choice is None else to_knobs(choice)


def _key(task: Mapping[str, Any], knobs: Mapping[str, Any] | None) -> str:
    return identity({"task": task, "choice": knobs})
