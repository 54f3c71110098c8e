"""A connection to a tracker, every word of which has a time limit."""

from __future__ import annotations

import json
import select
import socket
import struct
from collections.abc import Callable
from typing import Any

from tvm.rpc import base

from tvm_rsq.errors import DeviceError
from tvm_rsq.remote.address import Address, keep_alive

_TIMEOUT_S = 5.0


class TrackerLink:
    """An open connection.   DeviceError: no tracker there, or it has gone, from every method and at once when it is made."""

    def __init__(self, address: Address) -> None:
        self._address = address
        try:
            self._socket = socket.create_connection((address.host, address.port), timeout=_TIMEOUT_S)
        except (OSError, UnicodeError) as error:
            reason = getattr(error, "strerror", None) or error
            raise DeviceError(f"no tracker at {address}: {reason}; start one with `tvm-rsq tracker`, or correct --tracker") from error
        try:
            keep_alive(self._socket)
            self._socket.sendall(struct.pack("<i", base.RPC_TRACKER_MAGIC))
            if struct.unpack("<i", base.recvall(self._socket, 4))[0] != base.RPC_TRACKER_MAGIC:
                raise OSError("another answer than a tracker's")
        except OSError as error:
            self.close()
            raise DeviceError(f"what listens at {address} is no tracker ({error}); correct --tracker") from error

    def ask(self, *message: Any) -> Any:
        """The answer to one message, a TrackerCode and its arguments."""
        try:
            base.sendjson(self._socket, message)
            size = struct.unpack("<i", base.recvall(self._socket, 4))[0]
            return json.loads(base.recvall(self._socket, size))
        except (OSError, ValueError) as error:
            raise DeviceError(f"the tracker at {self._address} has gone: {error}") from error

    def wait_for(self, *message: Any, every_s: float, meanwhile: Callable[[], None]) -> Any:
        """As `ask`, for an answer that takes its time; `meanwhile` is called every so many seconds, and may raise to end the wait."""
        try:
            base.sendjson(self._socket, message)
            while not select.select([self._socket], [], [], every_s)[0]:
                meanwhile()
            return base.recvjson(self._socket)
        except (OSError, ValueError) as error:
            raise DeviceError(f"the tracker at {self._address} has gone: {error}") from error

    def close(self) -> None:
        self._socket.close()
