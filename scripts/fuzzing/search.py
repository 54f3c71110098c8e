"""The search: one child process after another until the time is over. A crash or a hang is a finding, and the search goes on."""

from __future__ import annotations

import json
import re
import select
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from scripts.fuzzing.finding import Finding
from tvm_rsq.held_folder import scratch_folder

CHILD = "scripts.fuzzing.child"
_EXAMPLES = 40  # of one process: small enough that a crash costs little
_HANG_S = 60.0
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
                found = Finding.load(scratch / "current")
                Finding(model=found.model, case=found.case, reason=reason).save(path)
                tally.found.append(reason)
                tally.saved.append(path)
        tell(tally)
        number += 1
    return tally


def _run(number: int, scratch: Path, until: float, tally: Tally) -> str:
    """One child. The reason of what it found, or ""."""
    command = [sys.executable, "-m", CHILD, str(number), str(_EXAMPLES), str(scratch)]
    reason = ""
    with subprocess.Popen(command, cwd=_ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as child:
        assert child.stdout is not None, "it is a pipe"
        while True:
            if not select.select([child.stdout], [], [], _HANG_S)[0]:
                child.kill()
                return f"hang: nothing for {_HANG_S:.0f} s"
            line = child.stdout.readline()
            if not line:
                break
            said = json.loads(line)
            reason = said.get("found", reason)
            tally.tried += said.get("tried", 0)
            if said.get("refused"):
                tally.refused[re.sub(r"'[^']*'|\(node[^)]*\)|\(tensor[^)]*\)|\d+", "…", said["refused"])] += 1
            if tally.tried and time.monotonic() > until + _HANG_S:
                child.kill()
                return reason
        code = child.wait()
    return reason or (f"crash: exit code {code}" if code else "")
