"""Whether a choice that looked faster is: measured again, in turns with the untuned one."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tvm_rsq.targets.choice import Choice
from tvm_rsq.tuning.runner import Runner
from tvm_rsq.tuning.task import TIME, TuningTask
from tvm_rsq.tuning.trial import in_turns
from tvm_rsq.tuning.work_dir import Decision

_CHALLENGERS = 3
_ROUNDS = 15
_GAIN = 0.985  # of time: a smaller gain may be due to where the loader put the code


def decide(task: TuningTask, untuned: Choice, measured: Mapping[Choice, float], runner: Runner) -> Decision:
    """The fastest of the best few in `measured`, or `untuned` unless one of them beats it in three rounds of four.

    measured  costs in what the task measures, infinity for what cannot be made; `untuned` is among them
    TargetError: `untuned` cannot be made.
    """
    least = measured[untuned]
    faster = sorted((choice for choice, time in measured.items() if time < least), key=lambda choice: measured[choice])[:_CHALLENGERS]
    if not faster:
        return Decision(choice=untuned, cost=least, untuned_cost=least, measured=len(measured))
    found = in_turns(task, untuned, faster, _ROUNDS, runner)
    samples = np.array(list(found.values()))
    base = float(np.median(samples[0]))
    ratios = {choice: times / samples[0] for choice, times in zip(found, samples, strict=True) if choice != untuned}
    best = min(ratios, key=lambda choice: np.median(ratios[choice]), default=untuned)
    enough = _GAIN if task.measure == TIME else 1.0
    won = best != untuned and np.median(ratios[best]) < enough and np.quantile(ratios[best], 0.75) < 1
    cost = base * float(np.median(ratios[best])) if won else base
    return Decision(choice=best if won else untuned, cost=cost, untuned_cost=base, measured=len(measured))
