"""How many threads a compiled network runs on."""

from __future__ import annotations

import os

from tvm_rsq.targets.host import host_cores

VARIABLE = "TVM_NUM_THREADS"


def thread_count() -> int:
    """The number the environment names in TVM_NUM_THREADS, else every core this process may use."""
    named = os.environ.get(VARIABLE, "")
    return int(named) if named.isdigit() and int(named) > 0 else host_cores()


def use_threads() -> None:
    """Tell TVM's runtime the number of threads, unless the environment does.

    By default the runtime halves the x86 core count, for hyper-threads that virtual machines do not show, which leaves one thread on two
    cores. It reads this variable at every launch and offers no call that does the same (config_threadpool measured no different).
    """
    os.environ.setdefault(VARIABLE, str(thread_count()))
