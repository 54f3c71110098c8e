"""A tracker and boards that a page leaves running: processes of their own, at free ports of this machine, which end with the page."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.remote.programs import wait_until
from tvm_rsq.remote.address import Address
from tvm_rsq.remote.devices import list_devices


class Loopback:
    """folder: where logs are put."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._programs: list[subprocess.Popen[bytes]] = []
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]

    def here(self, words: Sequence[str]) -> list[str]:
        """A command with the tracker's address in place of the page's."""
        address = f"127.0.0.1:{self._port}"
        return [word.replace("127.0.0.1:9190", address).replace("HOST:PORT", address) for word in words]

    def start(self, words: Sequence[str]) -> None:
        """`tvm-rsq tracker` or `tvm-rsq serve`: it listens, and the board is entered, when this returns."""
        program, *arguments = self.here(words)[1:]
        port = ["--port", str(self._port)] if program == "tracker" else []
        log = self._folder / f"{program}-{len(self._programs)}.log"
        before = 0 if program == "tracker" else self._boards()
        with log.open("w") as stream:
            command = [sys.executable, "-m", "tvm_rsq", program, *arguments, *port]
            process = subprocess.Popen(command, stdout=stream, stderr=stream, start_new_session=True)
        self._programs.append(process)
        wait_until(lambda: "listening on" in log.read_text() or process.poll() is not None)
        assert process.poll() is None, log.read_text()
        if program == "serve":
            wait_until(lambda: self._boards() > before)

    def _boards(self) -> int:
        return sum(device.total for device in list_devices(Address("127.0.0.1", self._port)))

    def close(self) -> None:
        for process in self._programs:
            process.terminate()
        for process in self._programs:
            process.wait()


@contextmanager
def loopback(folder: Path) -> Iterator[Loopback]:
    made = Loopback(folder)
    try:
        yield made
    finally:
        made.close()
