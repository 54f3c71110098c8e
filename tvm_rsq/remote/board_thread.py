"""A thread that talks to one board, and can be left behind.

TVM's client waits inside C++ for a board's answer, for ever where the board lost its power. So all talk with a board is done in a thread of
its own, and who waits for that has a time limit, and can be interrupted.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


class LeftBehind(Exception):
    """The thread did not answer in time, or was told to be left."""


class BoardThread:
    """Calls functions one after another, in a daemon thread: an answer that never comes keeps no process alive."""

    def __init__(self, name: str) -> None:
        self._tasks: queue.SimpleQueue[tuple[Callable[[], Any], queue.SimpleQueue[tuple[bool, Any]]] | None] = queue.SimpleQueue()
        self._waiting: set[queue.SimpleQueue[tuple[bool, Any]]] = set()
        self._left = False
        threading.Thread(target=self._work, name=name, daemon=True).start()

    def call(self, function: Callable[[], T], timeout_s: float) -> T:
        """What `function` returns or raises.   LeftBehind: not within `timeout_s`, or `leave` was called meanwhile."""
        answer: queue.SimpleQueue[tuple[bool, Any]] = queue.SimpleQueue()
        self._waiting.add(answer)
        if self._left:
            raise LeftBehind
        self._tasks.put((function, answer))
        try:
            done, value = answer.get(timeout=timeout_s)
        except queue.Empty:
            self.leave()
            raise LeftBehind from None
        finally:
            self._waiting.discard(answer)
        if done:
            return value
        raise value

    def leave(self) -> None:
        """End the thread once it is done with what it is at, and whoever waits for it at once."""
        self._left = True
        self._tasks.put(None)
        for answer in list(self._waiting):
            answer.put((False, LeftBehind()))

    def _work(self) -> None:
        while (task := self._tasks.get()) is not None:
            function, answer = task
            try:
                result = True, function()
            except BaseException as error:  # whatever it is, it is raised where it is waited for
                result = False, error
            answer.put(result)
            del function, answer, task, result  # which hold on to the board
