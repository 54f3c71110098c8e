"""Children that neither outlive this process nor leave children of their own behind: forked, not started anew.

A fork costs milliseconds where a new interpreter costs seconds. It is safe from a process with one thread, which has never called a
kernel: TVM starts its worker threads with the first one.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable

from tvm_rsq.remote.signals import STOPPING

_PR_SET_PDEATHSIG = 1
_PATIENCE_S, _LOOK_EVERY_S = 5.0, 0.01


def start(action: Callable[[], None]) -> int:
    """The id of a child that runs `action` in a session and process group of its own, and ends with this thread at the latest.

    It exits with 0; with 1 where `action` raised an error, which it prints.   OSError: no more processes can be made.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    parent = os.getpid()
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        signal.set_wakeup_fd(-1)
        for number in (*STOPPING, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        os.setsid()
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() == parent:  # else it died before prctl
            action()
            status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def has_ended(child: int) -> bool:
    """Whether `child` has ended; it still has to be ended by `end`."""
    return os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def stop(child: int) -> int:
    """Ask `child`, which handles SIGTERM, to end, and `end` it where it does not within a few seconds."""
    try:
        os.kill(child, signal.SIGTERM)
    except ProcessLookupError:
        pass
    deadline = time.monotonic() + _PATIENCE_S
    while not has_ended(child) and time.monotonic() < deadline:
        time.sleep(_LOOK_EVERY_S)
    return end(child)


def end(child: int) -> int:
    """Kill `child` and its process group, unless they have ended; its exit status, negative for a signal."""
    for kill in (os.killpg, os.kill):  # the second for a child that is not yet a group's leader
        try:
            kill(child, signal.SIGKILL)
        except ProcessLookupError:
            pass
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
