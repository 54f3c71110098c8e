"""Progress events on stderr: a bar per stage on a terminal; elsewhere a line per finished stage, and one every half minute."""

from __future__ import annotations

import time
from collections.abc import Callable

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars
from rich.text import Text

from tvm_rsq.cli.show import printable
from tvm_rsq.progress import Progress

_SILENCE_S = 30.0  # where there is no bar, a stage says how far it is this often


class ProgressDisplay:
    """A context whose `event` is a ProgressCallback. A stage ends when it is complete, when another begins, or with the context.

    console  where to draw; None draws nothing
    watch    is told every event first
    seconds  stage -> how long it took, once the context is left
    """

    def __init__(self, console: Console | None, watch: Callable[[Progress], None], clock: Callable[[], float] = time.monotonic) -> None:
        self.seconds: dict[str, float] = {}
        self._console = console
        self._watch = watch
        self._clock = clock
        self._stage, self._detail, self._begun, self._said = "", "", 0.0, 0.0
        self._task: TaskID | None = None
        self._bars: Bars | None = None
        if console is not None and console.is_terminal:
            self._bars = Bars(
                TextColumn("{task.description:<12}"), BarColumn(bar_width=28), MofNCompleteColumn(), TimeElapsedColumn(),
                TextColumn("{task.fields[detail]}", style="dim", markup=False), console=console,
            )  # fmt: skip

    def __enter__(self) -> ProgressDisplay:
        if self._bars is not None:
            self._bars.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._finish()
        if self._bars is not None:
            self._bars.stop()

    def event(self, event: Progress) -> None:
        """The ProgressCallback."""
        self._watch(event)
        if event.stage != self._stage:
            self._finish()
            self._stage, self._begun = event.stage, self._clock()
            self._said = self._begun
            if self._bars is not None:
                self._task = self._bars.add_task(printable(event.stage), total=event.total, detail="")
        self._detail = printable(event.detail)
        if self._bars is not None and self._task is not None:
            self._bars.update(self._task, completed=event.done, total=event.total, detail=self._detail)
        elif self._console is not None and self._clock() - self._said >= _SILENCE_S:
            self._said = self._clock()
            self._console.print(Text(f"{printable(event.stage):<12} {event.done}/{event.total}  {self._detail}".rstrip()), soft_wrap=True)

    def _finish(self) -> None:
        if not self._stage:
            return
        spent = self._clock() - self._begun
        self.seconds[self._stage] = self.seconds.get(self._stage, 0.0) + spent
        if self._bars is not None and self._task is not None:
            self._bars.stop_task(self._task)
        elif self._console is not None:
            self._console.print(Text(f"{printable(self._stage):<12} {spent:7.1f} s  {self._detail}".rstrip()), soft_wrap=True)
        self._stage, self._detail = "", ""
