"""Asks a tracker for a board, and waits for it as long as that makes sense.

TVM's own client waits a minute for a tracker that is not there; for a board that is in use, and for one that does not exist, it waits for
ever and says nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing

from tvm.rpc.base import TrackerCode

from tvm_rsq.errors import DeviceError
from tvm_rsq.remote.address import Address
from tvm_rsq.remote.devices import list_devices
from tvm_rsq.remote.tracker_link import TrackerLink

_GLANCE_S = 1.0

Waiting = Callable[[str], None]


def request_board(tracker: Address, key: str, *, patience_s: float, waiting: Waiting) -> tuple[Address, str]:
    """Where a board is that is ours now, and the word that it expects.

    Waits while others use the boards. What is missing, the tracker or every board of the key, has `patience_s` to come back: a tracker may
    be restarted, and boards then register again within seconds.
    waiting  is told, every second, why; StopWaiting, raised by it, ends the wait
    DeviceError: no tracker there, or no such key, for so long.
    """
    missing_since: float | None = None

    def missing(error: DeviceError) -> None:
        nonlocal missing_since
        missing_since = missing_since or time.monotonic()
        if time.monotonic() - missing_since >= patience_s:
            raise error
        waiting(f"{error}; waiting for it")

    def look(*, waited: bool = True) -> None:
        nonlocal missing_since
        found = {device.key: device for device in list_devices(tracker) if device.total}
        if key not in found:
            missing(NoBoard.of(tracker, key, list(found)))
        else:
            missing_since = None
            if waited and not found[key].free:
                waiting(f"all boards {key} are in use ({found[key].total}); waiting for one")

    while True:
        try:
            look(waited=False)
            if missing_since is None:
                with closing(TrackerLink(tracker)) as link:
                    code, answer = link.wait_for(TrackerCode.REQUEST, key, "", 1, every_s=_GLANCE_S, meanwhile=look)
                if code != TrackerCode.SUCCESS:
                    raise DeviceError(f"the tracker at {tracker} answered {code}, expected a board")
                host, port, word = answer
                return Address(host, port), word
        except (NoBoard, StopWaiting):
            raise
        except DeviceError as error:
            missing(error)
        time.sleep(min(_GLANCE_S, patience_s / 4))


class StopWaiting(DeviceError):
    """The client does not want to wait any longer."""


class NoBoard(DeviceError):
    """No board of the key is registered."""

    @classmethod
    def of(cls, tracker: Address, key: str, others: list[str]) -> NoBoard:
        """others: keys that are registered"""
        there = f"registered are {', '.join(others)}" if others else "no board is registered"
        return cls(f"no board {key} at the tracker {tracker}, {there}; start one with `tvm-rsq serve --tracker {tracker} --key {key}`")
