"""What a tracker knows: the boards under every key, those that are free, and the clients that wait."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from tvm.rpc.base import TrackerCode

from tvm_rsq.errors import DeviceError
from tvm_rsq.remote.address import Address
from tvm_rsq.remote.tracker_link import TrackerLink


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """Boards under one key.

    free, busy  boards that wait for a client, and those that have one
    waiting     clients that wait for a board
    servers     HOST:PORT of every board
    """

    key: str
    free: int
    busy: int
    waiting: int
    servers: tuple[str, ...]

    @property
    def total(self) -> int:
        return len(self.servers)


def list_devices(tracker: Address) -> tuple[Device, ...]:
    """By key, those with boards or waiting clients.   DeviceError: there is no tracker."""
    link = TrackerLink(tracker)
    try:
        code, summary = link.ask(TrackerCode.SUMMARY)
    finally:
        link.close()
    if code != TrackerCode.SUCCESS:
        raise DeviceError(f"the tracker at {tracker} answered {code}, expected a summary; is it a TVM tracker of another version?")
    servers = defaultdict(list)
    for entry in summary["server_info"]:
        servers[entry["key"].removeprefix("server:")].append(str(Address(*entry["addr"])))
    queues = defaultdict(dict, summary["queue_info"])
    found = []
    for key in sorted({*servers, *queues}):
        free, waiting = queues[key].get("free", 0), queues[key].get("pending", 0)
        if servers[key] or waiting:
            busy = max(0, len(servers[key]) - free)
            found.append(Device(key=key, free=free, busy=busy, waiting=waiting, servers=tuple(sorted(servers[key]))))
    return tuple(found)
