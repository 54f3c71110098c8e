"""A tracker in this process, and boards in processes of their own, for tests."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tvm_rsq.remote.address import Address
from tvm_rsq.remote.device import RemoteDevice
from tvm_rsq.remote.devices import list_devices

_LONGEST_START_S = 120.0  # of a board: it imports TVM, on a machine that may be busy


class LocalTracker:
    """TVM's tracker, which can be stopped and started again at its port."""

    def __init__(self) -> None:
        self.port = 0
        self.start()

    def start(self) -> None:
        tracker = pytest.importorskip("tvm.rpc.tracker", reason="TVM's tracker needs tornado; run: pip install tornado")
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self.port))
        listener.listen()
        self.port = listener.getsockname()[1]
        ready = threading.Event()

        def run() -> None:
            self._loop = asyncio.new_event_loop()
            asyncio.set_event_loop(self._loop)
            self._handler = tracker.TrackerServerHandler(listener, "stop")
            ready.set()
            self._handler.run()

        self._thread = threading.Thread(target=run, daemon=True)
        self._thread.start()
        ready.wait()

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._handler.stop)
        self._thread.join()

    @property
    def address(self) -> Address:
        return Address("127.0.0.1", self.port)


class Fleet:
    """A tracker and its boards."""

    def __init__(self) -> None:
        self.tracker = LocalTracker()
        self._processes: list[subprocess.Popen[bytes]] = []

    def board(self, key: str, *options: str) -> subprocess.Popen[bytes]:
        """Start a board under `key`; it is registered when this returns."""
        before = self.registered(key)
        command = [sys.executable, "-m", "tests.remote.stock_board", str(self.tracker.address), key, *options]
        process = subprocess.Popen(command, start_new_session=True, env={**os.environ, "TVM_NUM_THREADS": "1"})
        self._processes.append(process)
        self.wait_for(lambda: self.registered(key) > before)
        return process

    def registered(self, key: str) -> int:
        return next((device.total for device in list_devices(self.tracker.address) if device.key == key), 0)

    def busy(self, key: str) -> int:
        return next((device.busy for device in list_devices(self.tracker.address) if device.key == key), 0)

    def device(self, key: str, **settings: object) -> RemoteDevice:
        common = {"tracker": str(self.tracker.address), "target": "llvm", "threads": 1, "patience_s": 3.0}
        return RemoteDevice(**{**common, "key": key, **settings})

    def wait_for(self, condition) -> None:
        until = time.monotonic() + _LONGEST_START_S
        while not condition():
            assert time.monotonic() < until, "the boards are not as expected"
            time.sleep(0.05)

    def kill(self, process: subprocess.Popen[bytes]) -> None:
        """With its session, as when the power goes."""
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def close(self) -> None:
        for process in self._processes:
            if process.poll() is None:
                self.kill(process)
        self.tracker.stop()


@contextmanager
def local_fleet() -> Iterator[Fleet]:
    fleet = Fleet()
    try:
        yield fleet
    finally:
        fleet.close()
