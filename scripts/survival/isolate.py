"""One case in a process of its own, with a limit of time, its peak memory, and whatever way it ends.

Its time is what it would take on a free machine: the clock's, less what it stood in line for a processor.
"""

from __future__ import annotations

import json
import os
import resource
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass

from tvm_rsq.errors import Error
from tvm_rsq.remote import child_process

LIMIT_S, LIMIT_BYTES = 30.0, 4 * 10**9
_LOOK_EVERY_S = 0.5
_SPARE_BYTES = 2 * 10**9  # of address space beyond the limit, so that memory is counted before it is denied
_SHOWN = 2000  # characters of an outcome

REFUSED, ANSWERED = "refused", "answered"  # these two are well; the others are findings
WRONG, ERROR, CRASH, HANG, MEMORY = "wrong", "error", "crash", "hang", "memory"


class Wrong(Exception):
    """An answer that is not right."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a case ended: one of the words above, what it said, its seconds of the processor and its peak memory in bytes."""

    kind: str
    said: str
    seconds: float
    peak: int

    @property
    def well(self) -> bool:
        return self.kind in (REFUSED, ANSWERED)


def isolated(action: Callable[[], str], *, limit_s: float = LIMIT_S, limit_bytes: int = LIMIT_BYTES) -> Outcome:
    """Run `action` in a fork of this process, which must have imported what is needed and run nothing: forks do not inherit threads.

    action  raises one of our own errors, of one line, to refuse; Wrong for a wrong answer; what it returns is what it said
    """
    reader, writer = os.pipe()
    begun = time.monotonic()
    child = child_process.start(lambda: _report(writer, action, limit_bytes))
    os.close(writer)
    told = _read(reader, lambda: time.monotonic() - begun - _in_line_s(child) < limit_s)
    late = told is None
    try:
        os.killpg(child, signal.SIGKILL)  # with whatever it started
    except ProcessLookupError:
        os.kill(child, signal.SIGKILL)
    _, status, usage = os.wait4(child, 0)
    seconds, peak = usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024
    if late:
        return Outcome(HANG, f"{seconds:.1f} s of the processor, {time.monotonic() - begun:.1f} s in all", seconds, peak)
    if not told:
        return Outcome(CRASH, f"ended with {os.waitstatus_to_exitcode(status)}", seconds, peak)
    kind, said = json.loads(told)
    return Outcome(MEMORY if peak > limit_bytes else kind, said, seconds, peak)


def _report(writer: int, action: Callable[[], str], limit_bytes: int) -> None:
    null = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(null, stream)
    with open("/proc/self/statm") as file:
        mapped = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (mapped + limit_bytes + _SPARE_BYTES,) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        kind, said = ANSWERED, action()
    except Error as error:
        said = f"{type(error).__name__}: {error}"
        kind = REFUSED if str(error) and "\n" not in str(error) else ERROR
    except Wrong as error:
        kind, said = WRONG, str(error)
    except MemoryError:
        kind, said = MEMORY, traceback.format_exc()
    except BaseException:
        kind, said = ERROR, traceback.format_exc()
    os.write(writer, json.dumps([kind, said[-_SHOWN:]]).encode())
    sys.stdout.flush()


def _read(reader: int, in_time: Callable[[], bool]) -> bytes | None:
    """All that is written until the other end is closed; None: it was not in time."""
    found = b""
    with open(reader, "rb", buffering=0) as file:
        while in_time():
            if not select.select([file], [], [], _LOOK_EVERY_S)[0]:
                continue
            part = file.read(1 << 16)
            if not part:
                return found
            found += part
            if found.endswith(b"]"):
                return found
    return None


def _in_line_s(process: int) -> float:
    """Seconds that a process could have run and was not let."""
    try:
        with open(f"/proc/{process}/schedstat") as file:
            return int(file.read().split()[1]) / 1e9
    except (OSError, IndexError):
        return 0.0
