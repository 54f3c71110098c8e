"""Emulated boards that run while something is counted on them."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from scripts.emulator.toolchain import EmulatorError

_SCRIPT = Path(__file__).resolve().parents[1] / "arm_emulator"
SESSION_S = 3600.0  # float32 of a large network takes minutes


@contextmanager
def emulated_boards(keys: Sequence[str]) -> Iterator[tuple[str, int]]:
    """Host and port of a tracker with a counting board for each key, stopped at the end.   EmulatorError: they do not start, and why."""
    command = [sys.executable, str(_SCRIPT), "--port", "0", "--keys", ",".join(keys)]
    # What it complains of goes to a file: a pipe that nobody reads would stop it once it is full.
    with (
        tempfile.TemporaryFile("w+") as said,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=said, text=True) as process,
    ):
        try:
            line = process.stdout.readline()
            if not line.startswith("ready: "):
                process.wait()
                said.seek(0)
                last = (said.read().strip().splitlines() or ["no message"])[-1]
                raise EmulatorError(last.removeprefix("error: "))
            yield "127.0.0.1", int(line.split(",")[0].rpartition(":")[2])
        finally:
            process.terminate()
