"""A challenger wins only if it is faster beyond noise when it is measured again."""

from __future__ import annotations

import numpy as np
import pytest

from tests.tuning.fake_runner import SPACE, network_task
from tvm_rsq.tuning.decide import decide

UNTUNED, OTHER, THIRD = SPACE[:3]
MEASURED = {UNTUNED: 100.0, OTHER: 50.0, THIRD: 60.0}  # what a lucky trial may have read


class Noisy:
    """A Runner whose rounds are disturbed alike for all choices.   ratios: time / untuned time, per choice."""

    def __init__(self, ratios, spread=0.0):
        self.ratios, self.spread, self.rng = ratios, spread, np.random.default_rng(0)

    def times(self, task, choices, rounds):
        load = self.rng.uniform(1, 3, rounds)
        return [list(100 * self.ratios[c] * load * (1 + self.spread * self.rng.standard_normal(rounds))) for c in choices]


@pytest.mark.parametrize(
    ("other", "third", "spread", "winner"),
    [
        (0.9, 1.2, 0.0, OTHER),
        (1.3, 0.9, 0.0, THIRD),
        (1.2, 1.2, 0.0, UNTUNED),
        (0.99, 1.2, 0.0, UNTUNED),  # too little to be worth a doubt
        (0.95, 1.2, 0.1, UNTUNED),  # within the noise
        (0.8, 1.2, 0.05, OTHER),
    ],
)
def test_the_winner(other, third, spread, winner):
    found = decide(network_task().task, UNTUNED, MEASURED, Noisy({UNTUNED: 1.0, OTHER: other, THIRD: third}, spread))
    assert found.choice == winner and found.measured == 3
    assert found.cost < found.untuned_cost if winner != UNTUNED else found.cost == found.untuned_cost


@pytest.mark.parametrize("measure", ["instructions", "modelled-cycles"])
def test_of_counts_the_least_gain_is_one(measure):
    task = network_task(measure=measure).task
    assert decide(task, UNTUNED, MEASURED, Noisy({UNTUNED: 1.0, OTHER: 0.999, THIRD: 1.2})).choice == OTHER
    assert decide(task, UNTUNED, MEASURED, Noisy({UNTUNED: 1.0, OTHER: 1.0, THIRD: 1.2})).choice == UNTUNED
