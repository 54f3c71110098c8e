"""Whether a choice that looked faster is: measured again, in turns with the untuned one."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tvm_rsq.targets.choice import Choice
from tvm_rsq.tuning.runner import Runner
from tvm_rsq.tuning.task import TuningTask
from tvm_rsq.tuning.work_dir import Decision

_CHALLENGERS = 3
_ROUNDS = 15
_GAIN = 0.985  # a smaller gain may be due to where the loader put the code


def decide(task: TuningTask, untuned: Choice, measured: Mapping[Choice, float], runner: Runner) -> Decision:
    """The fastest of the best few in `measured` (microseconds), or `untuned` unless one of them beats it in three rounds of four."""
    least = measured.get(untuned, float("inf"))
    faster = sorted((choice for choice, time in measured.items() if time < least), key=lambda choice: measured[choice])[:_CHALLENGERS]
    if not faster:
        return Decision(choice=untuned, us=least, untuned_us=least, measured=len(measured))
    times = np.array(runner.times(task, [untuned, *faster], _ROUNDS))
    ratios = times[1:] / times[0]
    medians = np.median(ratios, axis=1)
    best = int(np.argmin(medians))
    won = medians[best] < _GAIN and np.quantile(ratios[best], 0.75) < 1
    base = float(np.median(times[0]))
    choice, us = (faster[best], base * float(medians[best])) if won else (untuned, base)
    return Decision(choice=choice, us=us, untuned_us=base, measured=len(measured))
