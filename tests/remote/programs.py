"""Servers and trackers as users start them, in processes of their own; every one is ended with its test."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tvm import rpc

PATIENCE_S = 60.0  # for what takes a second, on a machine that does other things too


@dataclass
class Program:
    """A running `tvm-rsq serve` or `tvm-rsq tracker`."""

    process: subprocess.Popen
    port: int
    log: Path

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def connect(self, session_timeout: float = 0) -> rpc.RPCSession:
        return rpc.connect("127.0.0.1", self.port, "", session_timeout)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(PATIENCE_S)


@contextmanager
def running(folder: Path, command: str, *arguments: str, before: Callable[[], None] | None = None) -> Iterator[Program]:
    """`tvm-rsq command --port 0 arguments`, listening.   before: called in its process first"""
    place = folder / f"{command}-{time.monotonic_ns()}"
    record, log = place.with_suffix(".json"), place.with_suffix(".log")
    port = () if "--port" in arguments else ("--port", "0")
    started = [sys.executable, "-m", "tvm_rsq", command, *port, "--json", str(record), *arguments]

    def begin() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests may run under nohup
        if before:
            before()

    with log.open("w") as stream:
        process = subprocess.Popen(started, stdout=stream, stderr=stream, preexec_fn=begin)
    try:
        wait_until(lambda: record.exists() or process.poll() is not None)
        assert process.poll() is None, log.read_text()
        yield Program(process, json.loads(record.read_text())["port"], log)
    finally:
        process.kill()
        process.wait()


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < deadline, "it did not become true"
        time.sleep(0.02)


def descendants(process: int) -> list[int]:
    """Ids of the children of `process`, and of theirs."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except (FileNotFoundError, ProcessLookupError):
                continue
            if parent == process:
                found += [int(entry.name), *descendants(int(entry.name))]
    return found


def is_running(process: int) -> bool:
    """Whether it is there, and not merely waiting to be reaped."""
    try:
        return (Path("/proc") / str(process) / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    """`tvm-rsq arguments`, to its end."""
    started = [sys.executable, "-m", "tvm_rsq", *arguments]
    return subprocess.run(started, capture_output=True, text=True, check=False, timeout=PATIENCE_S, env={**os.environ, "COLUMNS": "200"})
