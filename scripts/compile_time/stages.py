"""Wall-clock time, processor time and peak memory, stage by stage."""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tvm_rsq.progress import Progress

# of ru_maxrss: Linux counts in KiB
_RSS_UNIT = 1024
BETWEEN = "other"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One stage of one part ("quantize", "compile").

    wall_s, cpu_s  seconds; cpu_s of all threads and of child processes, such as the linker
    peak_bytes     the most memory that the process, or one child, has held from its start to the end of this stage
    """

    part: str
    stage: str
    wall_s: float
    cpu_s: float
    peak_bytes: int


class StageClock:
    """Adds up what the stages of a part take, as the library's progress events tell them."""

    def __init__(self) -> None:
        self._part = ""
        self._taken: dict[tuple[str, str], Stage] = {}
        self._wall, self._cpu = _now()

    @property
    def stages(self) -> tuple[Stage, ...]:
        """In the order in which they began."""
        return tuple(self._taken.values())

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Within it, events are stages of this part; what they leave over is its stage "other"."""
        self._part, (self._wall, self._cpu) = name, _now()
        yield
        self._add(BETWEEN)

    def event(self, event: Progress) -> None:
        """A ProgressCallback. What was done before an event that only announces a stage is not that stage's."""
        self._add(event.stage if event.done else BETWEEN)

    def _add(self, stage: str) -> None:
        wall, cpu = _now()
        key = (self._part, stage)
        before = self._taken.get(key)
        self._taken[key] = Stage(
            part=self._part, stage=stage, wall_s=wall - self._wall + (before.wall_s if before else 0.0),
            cpu_s=cpu - self._cpu + (before.cpu_s if before else 0.0), peak_bytes=peak_bytes(),
        )  # fmt: skip
        self._wall, self._cpu = wall, cpu


def total(stages: tuple[Stage, ...], part: str) -> Stage:
    """All stages of a part as one, named "all".   ValueError: it has none."""
    own = [stage for stage in stages if stage.part == part]
    return Stage(
        part=part,
        stage="all",
        wall_s=sum(s.wall_s for s in own),
        cpu_s=sum(s.cpu_s for s in own),
        peak_bytes=max(s.peak_bytes for s in own),
    )


def peak_bytes() -> int:
    """The most memory that this process, or the largest of its finished children, has held."""
    return _RSS_UNIT * max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


def _now() -> tuple[float, float]:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.perf_counter(), time.process_time() + children.ru_utime + children.ru_stime
