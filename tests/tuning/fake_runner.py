"""A machine of known speed: a table of times, and a library whose space is the table's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from tvm_rsq.targets.choice import Choice
from tvm_rsq.targets.generic.tiles import Tile
from tvm_rsq.targets.parse import parse_target
from tvm_rsq.targets.spec import TargetSpec
from tvm_rsq.targets.workload import Conv2DWorkload
from tvm_rsq.tuning.network_tasks import NetworkTask
from tvm_rsq.tuning.task import TIME, Machine, TuningTask, this_machine, tuning_task

# The untuned choice first; a tuner that learns finds out that 6 columns of 2 vectors are best.
SPACE = tuple(
    Tile(step="any", lanes=8, cols=cols, vecs=vecs, segment=segment, outer=outer)
    for vecs in (1, 2, 3, 4) for cols in (1, 2, 3, 4, 6, 8, 12) for segment in (1, 2, 4) for outer in ("rows", "channels")
)  # fmt: skip
BEST = Tile(step="any", lanes=8, cols=6, vecs=2, segment=4, outer="channels")


def cost(choice: Tile) -> float:
    """Microseconds, least for BEST."""
    return 100 + 9 * abs(choice.cols - 6) + 30 * abs(choice.vecs - 2) + 5 * (4 - choice.segment) + 4 * (choice.outer == "rows")


@dataclass
class TableRunner:
    """A Runner that looks times up, and counts what it was asked.

    stop_after: raises KeyboardInterrupt at that call; broken: choices that fail; broken_late: choices that fail from that call on
    """

    scale: float = 1.0
    stop_after: int | None = None
    broken: frozenset[Choice] = frozenset()
    broken_late: tuple[int, frozenset[Choice]] = (0, frozenset())
    asked: list[tuple[TuningTask, Choice]] = field(default_factory=list)

    def times(self, task: TuningTask, choices: Sequence[Choice], rounds: int) -> list[list[float]]:
        if self.stop_after is not None and len(self.asked) >= self.stop_after:
            raise KeyboardInterrupt
        self.asked.append((task, choices[-1]))
        late, broken = self.broken_late
        if (self.broken | (broken if len(self.asked) > late else frozenset())) & set(choices):
            raise ValueError("does not fit")
        size = task.workload.macs / workload().macs * self.scale
        return [[cost(choice) * size] * rounds for choice in choices]


@dataclass(frozen=True)
class TableLibrary:
    """Stands in for a KernelLibrary."""

    space: tuple[Choice, ...] = SPACE

    def conv2d_space(self, _w: Conv2DWorkload) -> tuple[Choice, ...]:
        return self.space


def workload(height: int = 14) -> Conv2DWorkload:
    return Conv2DWorkload(batch=1, height=height, width=14, in_channels=16, out_channels=32, kernel=(1, 1))


def spec(space: tuple[Choice, ...] = SPACE) -> TargetSpec:
    return replace(parse_target("llvm"), library=TableLibrary(space))  # type: ignore[arg-type]


def network_task(height: int = 14, uses: int = 1, measure: str = TIME) -> NetworkTask:
    task = tuning_task(spec(), workload(height), 1, Machine(cpu=this_machine().cpu, measure=measure))
    return NetworkTask(task=task, layers=tuple(f"layer{i}" for i in range(uses)))
