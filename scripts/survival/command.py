"""Runs of `tvm-rsq` in a session of their own, with their own temporary folder and record of times."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Place:
    """folder/tmp: TMPDIR; folder/timings.jsonl: recorded times; folder/out: what is made."""

    folder: Path

    @property
    def temporary(self) -> Path:
        return self.folder / "tmp"

    @property
    def out(self) -> Path:
        return self.folder / "out"

    def start(self, arguments: Sequence[str]) -> subprocess.Popen[str]:
        """`tvm-rsq` with these arguments, as the leader of a session."""
        for each in (self.temporary, self.out):
            each.mkdir(parents=True, exist_ok=True)
        environment = {**os.environ, "TMPDIR": str(self.temporary), "TVM_RSQ_TIMINGS": str(self.folder / "timings.jsonl")}
        return subprocess.Popen(
            [sys.executable, "-m", "tvm_rsq", *arguments], env=environment, text=True, start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )  # fmt: skip

    def run(self, arguments: Sequence[str]) -> float:
        """To its end; its seconds.   RuntimeError: it failed, with what it said"""
        begun = time.monotonic()
        with self.start(arguments) as process:
            said = process.communicate()[1]
        if process.returncode:
            raise RuntimeError(f"tvm-rsq {' '.join(arguments)} ended with {process.returncode}: {said[-500:]}")
        return time.monotonic() - begun


def alive_in(session: int) -> list[int]:
    """The processes of a session that still run."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[3]) == session and fields[0] != "Z":
                found.append(int(entry.name))
    return found
