"""The folder of a tuner.

    database_workload.json, database_tuning_record.json   every measurement: a JSONDatabase of MetaSchedule, workloads from specification.py
    best.jsonl                                            decisions, one a line, the last of a task counts: what compile reads
    lock                                                  held by the tuner at work
"""

from __future__ import annotations

import fcntl
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TextIO

from tvm.s_tir.meta_schedule.arg_info import ArgInfo
from tvm.s_tir.meta_schedule.database import JSONDatabase, TuningRecord
from tvm.target import Target

from tvm_rsq.errors import ConfigError
from tvm_rsq.targets.choice import Choice, from_knobs, to_knobs
from tvm_rsq.tuning import line_shapes
from tvm_rsq.tuning.json_lines import open_locked, read_lines, repair, write_line
from tvm_rsq.tuning.specification import annotate, choice_of, specification
from tvm_rsq.tuning.task import MEASURES, TIME, TuningTask, identity

_WORKLOADS, _RECORDS, _BEST = "database_workload.json", "database_tuning_record.json", "best.jsonl"
_LOOK_EVERY_S = 0.2
_FAILED_S = 1e10  # MetaSchedule's time of what could not be built


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The choice to compile a task with.

    cost, untuned_cost  of it and of the untuned choice in what the task measures, in turns; equal where the untuned one stays
    measured            how many choices it was picked from
    """

    choice: Choice
    cost: float
    untuned_cost: float
    measured: int


class WorkDir:
    """An open folder; see `open_work_dir`."""

    def __init__(self, path: Path, target: Target) -> None:
        self._path = path
        self._target = target
        for name in (_WORKLOADS, _RECORDS, _BEST):
            repair(path / name)
        # Before TVM reads them: it crashes on what it does not expect.
        workloads = read_lines(path / _WORKLOADS, line_shapes.workload)
        read_lines(path / _RECORDS, line_shapes.trial(len(workloads)))
        self._records: dict[str, list[TuningRecord]] = {}
        with self._named():
            self._database = JSONDatabase(work_dir=str(path))
            for record in self._database.get_all_tuning_records():
                self._records.setdefault(str(record.workload.mod["main"].attrs["rsq.task"]), []).append(record)

    def measured(self, task: TuningTask) -> dict[Choice, float]:
        """Choice -> cost of what is on record, in what the task measures; infinity for one that could not be built. Of several, the most
        counts: so a failure stays one. ConfigError: a choice that there is not.
        """
        found: dict[Choice, float] = {}
        with self._named():
            for record in self._records.get(task.identity, []):
                choice = choice_of(record.trace)
                found[choice] = max(_cost(float(record.run_secs[0])), found.get(choice, 0.0))
        return found

    def record(self, task: TuningTask, choice: Choice, cost: float) -> float:
        """Write one measurement, and return it as whoever goes on from the records will read it, to the last bit.

        cost  infinity says that the choice could not be built. A unit of another measure is put down as microsecond
        """
        module = specification(task)
        workload = self._database.commit_workload(module)
        seconds = cost * 1e-6 if math.isfinite(cost) else _FAILED_S
        trace = annotate(module, choice).trace
        self._database.commit_tuning_record(
            TuningRecord(trace, workload, [seconds], self._target, ArgInfo.from_prim_func(module["main"]))
        )
        return _cost(seconds)

    def decide(self, task: TuningTask, decision: Decision) -> None:
        """Write a decision."""
        line = {
            "task": task.key(), "choice": to_knobs(decision.choice), line_shapes.cost_name(task.key()): decision.cost,
            f"untuned_{line_shapes.cost_name(task.key())}": decision.untuned_cost, "measured": decision.measured,
        }  # fmt: skip
        with open_locked(self._path / _BEST) as file:
            write_line(file, line_shapes.decision(line))

    def decisions(self) -> Decisions:
        return read_decisions(self._path)

    @contextmanager
    def _named(self) -> Iterator[None]:
        """ConfigError in place of what reading the database may raise: its lines have the right shape, and hold nothing of ours."""
        try:
            yield
        except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
            files, why = f"{self._path / _WORKLOADS} and {self._path / _RECORDS}", " ".join(str(error).split())[-200:]
            raise ConfigError(f"{files} cannot be read ({why}); remove both, or take another folder") from error


class Decisions:
    """What `best.jsonl` says: its lines in order, of which the last of a task counts."""

    def __init__(self, path: Path, lines: Sequence[Mapping[str, Any]]) -> None:
        self._path = path
        numbered = list(enumerate(lines, 1))
        self._exact = {identity(line["task"]): (number, line) for number, line in numbered}
        self._elsewhere = {_elsewhere(line["task"]): (number, line) for number, line in numbered}

    def get(self, task: TuningTask, *, elsewhere: bool = False) -> Decision | None:
        """The last decision about `task`.   elsewhere: also one made on another CPU with these features, for compiling for it: by time if
        there is one, else by modelled cycles, else by instructions. ConfigError: it decides for a choice that there is not.
        """
        wanted = [replace(task, measure=measure, threads=task.threads if measure == TIME else 1) for measure in MEASURES]
        others = [self._elsewhere.get(_elsewhere(other.key())) for other in (wanted if elsewhere else ())]
        found = next(filter(None, [self._exact.get(task.identity), *others]), None)
        if found is None:
            return None
        number, line = found
        try:
            choice = from_knobs(line["choice"])
        except ValueError as error:
            raise ConfigError(f"{self._path}, line {number}: {error}, without that line") from error
        name = line_shapes.cost_name(line["task"])
        return Decision(choice=choice, cost=line[name], untuned_cost=line[f"untuned_{name}"], measured=line["measured"])


def read_decisions(path: str | os.PathLike[str]) -> Decisions:
    """ConfigError: no such folder, or a broken file."""
    path = Path(path)
    if not path.is_dir():
        raise ConfigError(f"no tuning folder {path}; make one with `tvm-rsq tune`")
    return Decisions(path / _BEST, read_lines(path / _BEST, line_shapes.decision))


@contextmanager
def open_work_dir(path: str | os.PathLike[str], target: Target, *, waiting: Callable[[], None] | None = None) -> Iterator[WorkDir]:
    """The folder, made where it is missing, locked until the context ends.

    waiting  called again and again while another tuner is at work there, whose records are then on file; None: that is an error
    ConfigError: as `check_work_dir`, or a broken file.
    """
    with _locked(Path(path), waiting):
        yield WorkDir(Path(path), target)


def check_work_dir(path: str | os.PathLike[str]) -> None:
    """Before the long work; leaves nothing.   ConfigError: it cannot be written, or its decisions are broken."""
    path = Path(path)
    if path.is_dir():
        try:
            (path / "lock").open("a").close()
        except OSError as error:
            raise _unwritable(path, error) from error
        read_decisions(path)
        return
    missing = [each for each in (path, *path.parents) if not each.exists()]
    try:
        path.mkdir(parents=True, exist_ok=True)  # what may be written only a try tells
    except OSError as error:
        raise _unwritable(path, error) from error
    finally:
        for each in missing:
            with suppress(OSError):
                each.rmdir()


@contextmanager
def _locked(path: Path, waiting: Callable[[], None] | None) -> Iterator[None]:
    with ExitStack() as stack:
        try:
            path.mkdir(parents=True, exist_ok=True)
            lock = stack.enter_context((path / "lock").open("a"))
            while not _taken(lock):
                if waiting is None:
                    raise ConfigError(f"another tuner is at work in {path}; wait for it, or give another folder")
                waiting()
                time.sleep(_LOOK_EVERY_S)
        except OSError as error:
            raise _unwritable(path, error) from error
        yield


def _taken(lock: TextIO) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _unwritable(path: Path, error: OSError) -> ConfigError:
    return ConfigError(f"cannot tune in {path} ({error.strerror or error}); give a folder that can be written")


def _cost(seconds: float) -> float:
    # Rounded, so that counts are whole again.
    return math.inf if seconds >= _FAILED_S else round(seconds * 1e6, 6)


def _elsewhere(key: dict[str, Any]) -> str:
    return identity({name: value for name, value in key.items() if name != "cpu"})
