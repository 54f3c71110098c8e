"""A server's entry at its tracker. While there is no tracker, or it was restarted, the server tries to enter itself again."""

from __future__ import annotations

import time
from collections.abc import Callable

from tvm.rpc import base
from tvm.rpc.base import TrackerCode

from tvm_rsq.errors import DeviceError
from tvm_rsq.remote.address import Address
from tvm_rsq.remote.tracker_link import TrackerLink

_PING_S = 2.0
_RETRY_S = 1.0
_UNUSED_S = 6.0  # a client that was given the key and has not come by then will not


class Registration:
    """Offers a board while it is free. `attend` is to be called when `due` says, at least.

    advertised  the host that clients are sent to; None: the one that the tracker sees this server come from
    report      shows one line to the user
    """

    def __init__(self, tracker: Address, key: str, port: int, advertised: str | None, report: Callable[[str], None]) -> None:
        self._tracker, self._key, self._port, self._advertised, self._report = tracker, key, port, advertised, report
        self._link: TrackerLink | None = None
        self._free = self._offered = self._complained = False
        self._next = self._taken_since = 0.0
        self.matchkey = base.random_key(key)  # what a client must ask for: the tracker tells it

    def offer(self) -> None:
        """The board is free from now on."""
        self._free = True
        self._renew_key()
        if self._link is not None:
            self._next = 0.0
        self.attend()

    def withdraw(self) -> None:
        """A client has come: the board is busy."""
        self._free = False

    def due(self) -> float:
        """Seconds until there is something to do."""
        return max(0.0, self._next - time.monotonic())

    def attend(self) -> None:
        """Enter the server, where it is not, and see whether the tracker is still there."""
        now = time.monotonic()
        if now < self._next:
            return
        try:
            if self._link is None:
                self._enter()
            elif self._free:
                self._keep_offering(now)
            else:
                self._link.ask(TrackerCode.PING)
            self._next = now + _PING_S
        except DeviceError as error:
            self.close()
            self._next = now + _RETRY_S
            if not self._complained:
                self._report(f"{error}; trying again until it is there")
            self._complained = True

    def close(self) -> None:
        """Leave the tracker."""
        if self._link is not None:
            self._link.close()
            self._link = None

    def _enter(self) -> None:
        self._link = TrackerLink(self._tracker)
        self._link.ask(TrackerCode.UPDATE_INFO, {"key": f"server:{self._key}", "addr": (self._advertised, self._port)})
        if self._free:
            self._put()
        self._report(f"registered at {self._tracker}")
        self._complained = False

    def _keep_offering(self, now: float) -> None:
        assert self._link is not None
        if not self._offered:
            self._put()
        elif self.matchkey in self._link.ask(TrackerCode.GET_PENDING_MATCHKEYS):
            self._taken_since = now
        elif now - self._taken_since > _UNUSED_S:
            self._renew_key()
            self._put()

    def _renew_key(self) -> None:
        self.matchkey, self._offered = base.random_key(self._key), False

    def _put(self) -> None:
        assert self._link is not None
        self._link.ask(TrackerCode.PUT, self._key, (self._port, self.matchkey), self._advertised)
        self._taken_since, self._offered = time.monotonic(), True
