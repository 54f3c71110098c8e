"""How long a layer's kernel takes on a target, where that can be measured: on this machine, and written down for the next time."""

from __future__ import annotations

import functools
import logging
import os
from pathlib import Path

from tvm_rsq.planner import TimedTarget
from tvm_rsq.targets.spec import TargetSpec, host_supports
from tvm_rsq.targets.workload import Conv2DWorkload
from tvm_rsq.threads import thread_count
from tvm_rsq.tuning.measure_kernel import TimingRecords, kernel_time_us

log = logging.getLogger(__name__)


def timings_path() -> Path:
    """Where times are kept, so that a machine makes the same plan again: the file $TVM_RSQ_TIMINGS, else ~/.cache/tvm_rsq/timings.jsonl."""
    named = os.environ.get("TVM_RSQ_TIMINGS")
    return Path(named).expanduser() if named else Path.home() / ".cache" / "tvm_rsq" / "timings.jsonl"


def timed_target(spec: TargetSpec, records: TimingRecords | None = None) -> TimedTarget | None:
    """The target with its kernels timed at the threads that a compiled network would use; None where this machine cannot run them.

    records  None: those of `timings_path`
    """
    if lacking := host_supports(spec):
        log.info("%s does not run here (it lacks %s): granularity is decided, other levers are not used", spec.name, ", ".join(lacking[:4]))
        return None
    kept = TimingRecords(timings_path()) if records is None else records
    threads = thread_count()

    @functools.cache
    def cost(workload: Conv2DWorkload) -> float:
        return kernel_time_us(spec, workload, threads=threads, records=kept)

    return TimedTarget(name=spec.name, levers=spec.library.levers, cost=cost)
