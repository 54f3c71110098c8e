"""Which choice to measure next, and for which task.

MetaSchedule's EvolutionarySearch and GradientBased scheduler are not used: both hang on a TuneContext, whose constructor imports TVM's
tensor intrinsics (over ten seconds on an idle core); the scheduler commits a batch only when its task comes up again, so that a kill in
its first pass over the tasks loses every measurement; and a space that can be listed needs no mutation: the model ranks all of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from tvm_rsq.targets.choice import Choice
from tvm_rsq.tuning.cost_model import CostModel
from tvm_rsq.tuning.task import INSTRUCTIONS, MODELLED_CYCLES, TIME, TuningTask

_EXPLORE = 0.15  # part of the trials that are drawn, not predicted
_RECENT = 4  # trials that tell whether a task still improves
_TREND = 0.2  # weight of that trend against the task's mere share of the time, as in MetaSchedule's gradient scheduler
# What a product costs, for tasks of which nothing is known yet: too little of it, and they never have their turn.
_OF_A_PRODUCT = {TIME: 1e-4, INSTRUCTIONS: 0.15, MODELLED_CYCLES: 0.08}


@dataclass
class TaskSearch:
    """The search for one task.

    space     every choice, the untuned one first
    uses      how often the network runs the task
    measured  choice -> cost in what the task measures; infinity for one that could not be built
    begun     choices that are being measured
    """

    task: TuningTask
    space: tuple[Choice, ...]
    uses: int
    measured: dict[Choice, float] = field(default_factory=dict)
    begun: set[Choice] = field(default_factory=set)

    @property
    def untuned(self) -> Choice:
        return self.space[0]

    @property
    def open(self) -> list[Choice]:
        """What can still be measured, in the order of the space."""
        return [choice for choice in self.space[1:] if choice not in self.measured and choice not in self.begun]

    @property
    def trials(self) -> int:
        """Choices of this space that were measured against the untuned one, or are being measured."""
        return sum(choice in self.measured or choice in self.begun for choice in self.space[1:])

    def propose(self, model: CostModel, rng: np.random.Generator) -> Choice:
        """The open choice that the model thinks fastest, or now and then any."""
        choices = self.open
        explore, drawn = rng.random() < _EXPLORE, int(rng.integers(len(choices)))
        predicted = None if explore else model.predict(self.task.workload, choices)
        return choices[drawn if predicted is None else int(np.argmin(predicted))]

    def gain(self) -> float:
        """Cost of the network that another trial may save, up to a constant."""
        known = [time for choice, time in self.measured.items() if choice in self.space and np.isfinite(time)]
        times = known or [self.task.workload.macs * _OF_A_PRODUCT[self.task.measure]]
        best = min(times)
        trend = (min(times[:-_RECENT]) - best) / _RECENT / best if len(times) > _RECENT else 0.0
        return self.uses * best * (_TREND * trend + (1 - _TREND) / (1 + self.trials))


def next_search(searches: Sequence[TaskSearch]) -> TaskSearch | None:
    """The one whose next trial promises most; None when every space is exhausted."""
    alive = [search for search in searches if search.open]
    return max(alive, key=TaskSearch.gain) if alive else None


def propose_together(searches: Sequence[TaskSearch], model: CostModel, seed: int, count: int) -> list[tuple[TaskSearch, Choice]]:
    """Up to `count` trials to begin side by side, a function of the seed and of what is measured; fewer when the spaces are exhausted."""
    done = sum(search.trials for search in searches)
    proposed: list[tuple[TaskSearch, Choice]] = []
    try:
        while len(proposed) < count and (search := next_search(searches)):
            choice = search.propose(model, np.random.default_rng([seed, done + len(proposed)]))
            search.begun.add(choice)
            proposed.append((search, choice))
    finally:
        for search, choice in proposed:
            search.begun.discard(choice)
    return proposed


def teach(model: CostModel, search: TaskSearch, times: Mapping[Choice, float]) -> None:
    """Tell the model of measurements of one task."""
    untuned = search.measured.get(search.untuned)
    for choice, time in times.items():
        if untuned is not None and np.isfinite(time):
            model.add(search.task.workload, choice, time / untuned)
