"""A process that waits: for sockets, for a child to end, and to be stopped."""

from __future__ import annotations

import select
import signal
import socket
from collections.abc import Iterable, Mapping
from types import FrameType
from typing import Any

HANG_UP = select.POLLRDHUP  # the peer closed, or will send no more
READABLE = select.POLLIN
STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def heeded(numbers: Iterable[int]) -> list[int]:
    """Without SIGHUP where the process was started by nohup."""
    return [number for number in numbers if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN]


class Stopped(KeyboardInterrupt):
    """SIGINT, SIGTERM or SIGHUP: the process is to end what it does and go."""


class Signals:
    """A context of the main thread. In it the signals that stop a process raise Stopped, once; the end of a child ends a `wait`."""

    def __enter__(self) -> Signals:
        self._awake, self._waker = socket.socketpair()
        self._awake.setblocking(False)
        self._waker.setblocking(False)
        self._former_fd = signal.set_wakeup_fd(self._waker.fileno(), warn_on_full_buffer=False)
        self._stopping = False
        handlers: dict[int, Any] = {number: self._stop for number in STOPPING} | {signal.SIGCHLD: lambda *_: None}
        self._former = {number: signal.signal(number, handlers[number]) for number in heeded(handlers)}
        return self

    def __exit__(self, *_error: object) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._former_fd)
        self._awake.close()
        self._waker.close()

    def wait(self, events: Mapping[socket.socket, int], timeout_s: float | None) -> set[socket.socket]:
        """The sockets at which one of their events happened. Empty: the time is over, or a child ended.   Stopped."""
        poll = select.poll()
        by_number = {watched.fileno(): watched for watched in events}
        for watched, mask in events.items():
            poll.register(watched, mask)
        poll.register(self._awake, READABLE)
        ready = poll.poll(None if timeout_s is None else max(0, timeout_s) * 1000)
        try:
            while self._awake.recv(4096):
                pass
        except BlockingIOError:
            pass
        return {by_number[number] for number, _ in ready if number in by_number}

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        if not self._stopping:  # a second one must not disturb the clearing up
            self._stopping = True
            raise Stopped
