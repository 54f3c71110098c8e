"""The search: one child process after another until the time is over. A crash or a hang is a finding, and the search goes on."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from scripts.fuzzing.finding import Finding
from tvm_rsq.held_folder import scratch_folder

CHILD = "scripts.fuzzing.child"
_EXAMPLES = 40  # of one process: small enough that a crash costs little
_HANG_S, _MOST_WAIT_S, _LOOK_S = 60.0, 900.0, 1.0
_ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Tally:
    """refused: reason -> how often; found: reasons, one line each; saved: where each finding is, without suffix"""

    tried: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    found: list[str] = field(default_factory=list)
    saved: list[Path] = field(default_factory=list)


def search(seconds: float, seed: int, folder: Path, tell: Callable[[Tally], None]) -> Tally:
    """folder: where findings are kept; tell: called after every process"""
    tally, until = Tally(), time.monotonic() + seconds
    folder.mkdir(parents=True, exist_ok=True)
    number = seed
    while time.monotonic() < until:
        with scratch_folder() as scratch:
            reason = _run(number, scratch, until, tally)
            if reason:
                path = folder / f"seed-{number}"
                found = Finding.load(scratch / ("found" if (scratch / "found.json").exists() else "current"))
                replace(found, reason=reason).save(path)
                tally.found.append(reason)
                tally.saved.append(path)
        tell(tally)
        number += 1
    return tally


def _run(number: int, scratch: Path, until: float, tally: Tally) -> str:
    """One child. The reason of what it found, or "".   RuntimeError: it ends before its first network"""
    command = [sys.executable, "-m", CHILD, str(number), str(_EXAMPLES), str(scratch)]
    with subprocess.Popen(command, cwd=_ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as child:
        assert child.stdout is not None, "it is a pipe"
        watched = _Watched(child)
        for line in child.stdout:
            watched.heard()
            said = json.loads(line)
            tally.tried += said.get("tried", 0)
            if said.get("refused"):
                tally.refused[re.sub(r"'[^']*'|\(node[^)]*\)|\(tensor[^)]*\)|\d+", "…", said["refused"])] += 1
            if tally.tried and time.monotonic() > until + _HANG_S and not (scratch / "found.json").exists():
                child.kill()
                return ""
        code = child.wait()
    if (scratch / "found.json").exists():
        return Finding.load(scratch / "found").reason
    if code and not (scratch / "current.json").exists():
        raise RuntimeError(f"{' '.join(command)} ends with {code} before its first network; run it to see why")
    tally.tried += bool(code)
    return watched.hang or (f"crash: exit code {code}" if code else "")


class _Watched:
    """Ends a process that computes for a minute, or waits for a quarter of an hour, without a word. What others do here is no hang."""

    def __init__(self, child: subprocess.Popen[str]) -> None:
        self.child, self.hang = child, ""
        self.heard()
        threading.Thread(target=self._watch, daemon=True).start()

    def heard(self) -> None:
        """It has said something."""
        self._since, self._spent = time.monotonic(), _cpu_s(self.child.pid)

    def _watch(self) -> None:
        while self.child.poll() is None:
            for what, taken, most in (
                ("its own time", _cpu_s(self.child.pid) - self._spent, _HANG_S), ("time", time.monotonic() - self._since, _MOST_WAIT_S),
            ):  # fmt: skip
                if taken > most:
                    self.hang = f"hang: nothing for {most:.0f} s of {what}"
                    self.child.kill()
            time.sleep(_LOOK_S)


def _cpu_s(pid: int) -> float:
    """Seconds that a process has computed."""
    try:
        fields = Path("/proc", str(pid), "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
