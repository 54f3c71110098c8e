"""Choices measured in turns with the untuned one, those that fail told apart from an untuned one that fails."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence

from tvm_rsq.errors import TargetError
from tvm_rsq.targets.choice import Choice
from tvm_rsq.tuning.runner import FailedOnBoard, Runner
from tvm_rsq.tuning.task import TuningTask, describe

log = logging.getLogger(__name__)

_ROUNDS = 7  # samples of a trial
_FAILURES = (ValueError, RuntimeError)  # RuntimeError: TVM's own


def trial(task: TuningTask, untuned: Choice, choice: Choice, runner: Runner) -> dict[Choice, float]:
    """Costs of the untuned choice and of another, measured in turns; infinity where that cannot be made.
    TargetError: the untuned one cannot be made.
    """
    samples = {made: min(times) for made, times in in_turns(task, untuned, [choice], _ROUNDS, runner).items()}
    return {untuned: samples[untuned], choice: samples.get(choice, math.inf)}


def at_speed_of(costs: dict[Choice, float], untuned: Choice, known: float | None) -> dict[Choice, float]:
    """What a trial found, at the speed that the machine had when the untuned one took `known`; None: it was never measured before."""
    return costs if known is None else {choice: cost / costs[untuned] * known for choice, cost in costs.items() if choice != untuned}


def untuned_us(task: TuningTask, untuned: Choice, runner: Runner, rounds: int = _ROUNDS) -> float:
    """Cost of the untuned choice alone, the least of `rounds`.   TargetError: it cannot be made."""
    return min(in_turns(task, untuned, [], rounds, runner)[untuned])


def in_turns(task: TuningTask, untuned: Choice, others: Sequence[Choice], rounds: int, runner: Runner) -> dict[Choice, list[float]]:
    """`rounds` samples of the untuned choice and of those others that can be made; samples of one round can be compared.
    TargetError: the untuned one cannot be made.
    """
    try:
        return dict(zip([untuned, *others], runner.times(task, [untuned, *others], rounds), strict=True))
    except _FAILURES:
        # Each alone: to find out which it is, and because Ctrl-C inside one of TVM's callbacks is a RuntimeError too, but only once.
        base = _untuned_alone(task, untuned, rounds, runner)
    if made := [choice for choice in others if _can_be_made(task, choice, runner)]:
        try:
            return dict(zip([untuned, *made], runner.times(task, [untuned, *made], rounds), strict=True))
        except _FAILURES as error:
            log.warning("%s fails in some rounds only (%s) and stays untuned", describe(task.workload), _one_line(error))
    return {untuned: base}


def _untuned_alone(task: TuningTask, untuned: Choice, rounds: int, runner: Runner) -> list[float]:
    try:
        return runner.times(task, [untuned], rounds)[0]
    except _FAILURES as error:
        where, todo = "here", "please report it, and leave its layers in float by an override meanwhile"
        if isinstance(error, FailedOnBoard):
            where, todo = "there", "if the board is not of the target that was named, name its own, as in KEY=TARGET; if it is, " + todo
        raise TargetError(f"the untuned kernel of {describe(task.workload)} fails {where} ({_one_line(error)}); {todo}") from error


def _can_be_made(task: TuningTask, choice: Choice, runner: Runner) -> bool:
    try:
        runner.times(task, [choice], 1)
    except _FAILURES as error:
        log.warning("%s cannot be made as %s: %s", describe(task.workload), choice, _one_line(error))
        return False
    return True


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[-300:] or type(error).__name__
