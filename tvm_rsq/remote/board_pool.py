"""Sessions with as many boards of a device as there are, for threads that each need one for a while."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from tvm_rsq.errors import DeviceError
from tvm_rsq.remote.address import parse_address
from tvm_rsq.remote.board_session import BoardSession, SessionLost, last_line, open_session
from tvm_rsq.remote.device import RemoteDevice
from tvm_rsq.remote.devices import list_devices
from tvm_rsq.remote.request_board import NoBoard, StopWaiting, Waiting

log = logging.getLogger(__name__)
T = TypeVar("T")

_AGED = 0.5  # of its time-out, from which a session is renewed before it is used again
_ATTEMPTS = 2  # sessions that a piece of work may lose, before it is the work's fault
_SHORT_PATIENCE_S = 8.0  # for a board to register again, while others can do its work


class BoardPool:
    """Sessions that are opened when they are needed. A board that is lost, or cannot do its work, is done without while others can.

    size  boards that are used at once, at most
    DeviceError: no tracker, or no such key, at once: the user may have mistyped it.
    """

    def __init__(self, device: RemoteDevice, waiting: Waiting) -> None:
        tracker = parse_address(device.tracker)
        found = {each.key: each for each in list_devices(tracker) if each.total}
        if device.key not in found:
            raise NoBoard.of(tracker, device.key, list(found))
        self.device, self.size = device, found[device.key].total
        self._waiting = waiting
        self._changed = threading.Condition()
        self._idle: list[BoardSession] = []
        self._busy: set[BoardSession] = set()
        self._unusable: list[BoardSession] = []  # held, so that the tracker does not hand them out again
        self._opening = 0
        self._most = self.size
        self._closed = False

    def run(self, work: Callable[[BoardSession], T]) -> T:
        """What `work` returns, on any board; a second time on another session, if the first is lost.

        DeviceError: no board is left; SessionLost: every session that did this work was lost, so it may be the work's fault.
        """
        lost = 0
        while True:
            with self._session() as session:
                try:
                    return work(session)
                except SessionLost as error:
                    lost += 1
                    log.info("%s", error)
                    if lost == _ATTEMPTS:
                        raise
                except DeviceError as error:
                    self._set_aside(session, error)

    def release(self) -> None:
        """Give back the boards that nothing is run on."""
        with self._changed:
            idle, self._idle = self._idle, []
        for session in idle:
            session.close()

    def close(self) -> None:
        """Give all boards back; those that are at work are left alone."""
        with self._changed:
            self._closed = True
            idle, busy = [*self._idle, *self._unusable], list(self._busy)
            self._idle, self._unusable = [], []
            self._changed.notify_all()
        for session in busy:
            session.abandon()
        for session in idle:
            session.close()

    def __enter__(self) -> BoardPool:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    @contextmanager
    def _session(self) -> Iterator[BoardSession]:
        session = self._take()
        try:
            yield session
        finally:
            with self._changed:
                self._busy.discard(session)
                if session.alive and session not in self._unusable and not self._closed:
                    self._idle.append(session)
                self._changed.notify_all()

    def _take(self) -> BoardSession:
        """An idle session, or a new one while there are boards; else the next that comes free."""
        session: BoardSession | None
        while True:
            with self._changed:
                while True:
                    if self._closed:
                        raise SessionLost("the boards were given back")
                    if self._idle:
                        session = self._idle.pop()
                        self._busy.add(session)
                        break
                    if len(self._busy) + self._opening < self._most:
                        session = None
                        self._opening += 1
                        break
                    self._changed.wait()
            if session is None:
                session = self._open()
                if session is None:
                    continue
            elif time.monotonic() - session.opened_s > _AGED * self.device.session_timeout_s:
                with self._changed:
                    self._busy.discard(session)
                    self._opening += 1
                session.close()
                session = self._open()
                if session is None:
                    continue
            return session

    def _open(self) -> BoardSession | None:
        """A new session, counted as busy; None: there is none to be had, and others can do the work.   DeviceError: and none can"""
        with self._changed:
            alone = not self._busy and not self._idle and self._opening == 1
        until = time.monotonic() + min(_SHORT_PATIENCE_S, self.device.patience_s)

        def no_longer(why: str) -> None:
            self._waiting(why)
            if time.monotonic() > until:
                raise StopWaiting(why)

        try:
            session = open_session(self.device, self._waiting if alone else no_longer)
        except DeviceError as error:
            with self._changed:
                self._opening -= 1
                others = len(self._busy) + len(self._idle) + self._opening
                if others:
                    self._most = max(1, others)
                self._changed.notify_all()
            if alone or not others:
                raise
            log.warning("one board less: %s", error)
            return None
        with self._changed:
            self._opening -= 1
            self._busy.add(session)
            self._changed.notify_all()
        return session

    def _set_aside(self, session: BoardSession, error: DeviceError) -> None:
        """DeviceError: it was the last one."""
        with self._changed:
            self._unusable.append(session)
            self._most -= 1
            left = self._most
        if left <= 0:
            raise error
        log.warning("one board less: %s", last_line(error))
