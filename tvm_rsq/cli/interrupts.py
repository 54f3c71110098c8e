"""What Ctrl-C does: the first one during synthesis or reconstruction ends it with what it has so far, every other one aborts."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType

from tvm_rsq.progress import Progress

_STOPPABLE = {
    "synthesis": "synthesis ends early with the best images so far",
    "reconstruction": "reconstruction ends early with the blocks that are done",
}


class Interrupts:
    """A context that owns SIGINT. `watch` must see every progress event; `should_stop` is for the library.

    tell  shows one line to the user
    """

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._stage = self._asked = ""
        self._told = self._aborted = False
        self._previous: object = None

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            self._previous = signal.signal(signal.SIGINT, self._on_signal)
        return self

    def __exit__(self, *_error: object) -> None:
        if self._previous is not None:
            signal.signal(signal.SIGINT, self._previous)  # type: ignore[arg-type]

    def watch(self, event: Progress) -> None:
        """Note the stage. KeyboardInterrupt as `check`."""
        self._stage = event.stage
        self.check()
        if self._asked and not self._told:
            self._told = True  # not in the handler: it may run in the middle of another line
            self._tell(f"{_STOPPABLE[self._asked]}; press Ctrl-C again to abort")

    def check(self) -> None:
        """KeyboardInterrupt: the user aborted, and the library took it for a wish to stop."""
        if self._aborted:
            raise KeyboardInterrupt

    @property
    def aborted(self) -> bool:
        """The user has aborted: any error from now on is only how the library noticed."""
        return self._aborted

    def should_stop(self) -> bool:
        """True from the first Ctrl-C on, as long as the stage goes on that it was pressed in: later stages are to go on."""
        return self._asked != "" and self._stage == self._asked

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        if self._stage in _STOPPABLE and not self._asked:
            self._asked = self._stage
            return
        self._aborted = True
        raise KeyboardInterrupt
