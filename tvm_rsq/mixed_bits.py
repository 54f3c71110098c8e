"""How many bits each layer's weights get where they need not all have the same: the least divergence for a size, or the least size for a
divergence, as an integer program over the grids that were tried (see grid_trials).

    minimise    sum over layers of cost(layer, grid)      subject to  sum of bytes <= average bits / 8 * weights
    minimise    sum of bytes                              subject to  sum of costs <= nats, so much that the whole network stays within

    cost(layer, grid) = nmse(layer, grid) * median over the layer's grids of fewer than 8 bits of  KL / nmse

A KL is quadratic in small errors, so it grows as the squared error of the weights does, and the median of a layer's measured ratios tells
more than each by itself: by measured KLs alone MobileNetV2 at 4.0 bits a weight diverged by 0.099 nats, so by 0.084; with 4 bits in every
layer and codebooks by 0.67, uniform by 1.36 (one seed, 300 photos, rounded by squant, fake-quant without equalization and bias correction,
which take much of that away where all layers are alike: docs/accuracy.md).
(Yao et al., "HAWQ-V3", ICML 2021, solve such a program over curvatures and squared errors; here both factors are measured.)
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from tvm_rsq.choose_bits import EIGHT
from tvm_rsq.errors import ConfigError
from tvm_rsq.layer_record import GridTrial

_STEPS = 10  # of a bisection over nats, by factors
_UNSEEN = 1e-3  # of the median layer's: what a layer counts at least that changes nothing on this data
_LEAST = 1e-4  # of the largest sum of costs, where it begins


def within_size(trials: Mapping[str, Sequence[GridTrial]], weights: Mapping[str, int], average_bits: float) -> dict[str, GridTrial]:
    """Layer -> its grid, of least divergence.   weights: of each layer; ConfigError: the least whose outputs are numbers is more"""
    cost, size = costs(trials), _bytes(trials)
    least = sum(min(s for s, nats in zip(size[name], cost[name], strict=True) if math.isfinite(nats)) for name in trials)
    room = sum(math.ceil(average_bits * count / 8) for count in weights.values())  # as codes of a layer fill their last byte
    if least > room:
        have = 8 * least / sum(weights.values())
        raise ConfigError(f"average_bits is {average_bits:g}, and these layers have {have:.4g} at least; ask for more, or override fewer")
    return _least(trials, cost, size, room)


def within_divergence(
    trials: Mapping[str, Sequence[GridTrial]], most: float, divergence: Callable[[Mapping[str, GridTrial]], float]
) -> tuple[dict[str, GridTrial], float]:
    """(Layer -> its grid, of least size, the network's divergence so).

    most        nats, of the whole network
    divergence  of the whole network with these grids, in nats
    Where not even the grids of least cost stay within it, these are taken: what comes of them is told by the divergence.
    """
    cost = costs(trials)
    least = {name: found[int(np.argmin(cost[name]))] for name, found in trials.items()}
    best, reached = least, divergence(least)
    if not reached <= most:
        return best, reached
    nats = math.fsum(max(value for value in values if math.isfinite(value)) for values in cost.values())
    cheapest = math.fsum(min(values) for values in cost.values())
    low, high, middle = math.log(_LEAST), 0.0, 0.0  # the largest room first: it may be enough
    for _ in range(_STEPS if nats > 0 else 1):
        chosen = _least(trials, _bytes(trials), cost, cheapest + math.exp(middle) * nats)
        found = divergence(chosen)
        if found <= most:
            best, reached, low = chosen, found, middle
        else:
            high = middle
        if low == high:
            break
        middle = (low + high) / 2
    return best, reached


def costs(trials: Mapping[str, Sequence[GridTrial]]) -> dict[str, list[float]]:
    """Layer -> what each of its grids is expected to cost, in nats; infinite where the output is no number."""
    factors = {name: _factor(found) for name, found in trials.items()}
    some = [factor for factor in factors.values() if factor > 0]
    least = _UNSEEN * statistics.median(some) if some else 1.0
    return {name: _costs(found, max(factors[name], least)) for name, found in trials.items()}


def _factor(trials: Sequence[GridTrial]) -> float:
    """Nats for a relative squared error of 1."""
    known = [trial for trial in trials if math.isfinite(trial.kl) and trial.weight_nmse > 0]
    ratios = [trial.kl / trial.weight_nmse for trial in known if trial.bits < EIGHT] or [trial.kl / trial.weight_nmse for trial in known]
    return statistics.median(ratios) if ratios else 0.0


def _costs(trials: Sequence[GridTrial], factor: float) -> list[float]:
    if not any(math.isfinite(trial.kl) for trial in trials):  # no number on any grid, and some grid it has to have
        return [math.inf] * (len(trials) - 1) + [0.0]
    return [factor * trial.weight_nmse if math.isfinite(trial.kl) else math.inf for trial in trials]


def _bytes(trials: Mapping[str, Sequence[GridTrial]]) -> dict[str, list[float]]:
    return {name: [float(trial.weight_bytes) for trial in found] for name, found in trials.items()}


def _least(
    trials: Mapping[str, Sequence[GridTrial]], objective: Mapping[str, Sequence[float]], limited: Mapping[str, Sequence[float]], room: float
) -> dict[str, GridTrial]:
    """One grid a layer, the sum of `objective` the least with that of `limited` within `room`; equal inputs give equal answers."""
    # Imported where it is needed: half a second that `import tvm_rsq` should not cost.
    from scipy.optimize import Bounds, LinearConstraint, milp
    from scipy.sparse import csr_array

    flat = [(name, i) for name, found in trials.items() for i in range(len(found))]
    goal = np.array([objective[name][i] for name, i in flat])
    spent = np.array([limited[name][i] for name, i in flat])
    possible = np.isfinite(goal) & np.isfinite(spent)
    rows = {name: row for row, name in enumerate(trials)}
    one_each = csr_array((np.ones(len(flat)), ([rows[name] for name, _ in flat], np.arange(len(flat)))), shape=(len(rows), len(flat)))
    # In units of what there is, which may be far below the solver's tolerance.
    unit, scale = (room if room > 0 else 1.0), goal[possible].max() or 1.0
    within = np.where(possible, spent, 0.0)[None] / unit
    solved = milp(
        np.where(possible, goal, 0.0) / scale, integrality=np.ones(len(flat)), bounds=Bounds(0, possible.astype(float)),
        constraints=[LinearConstraint(one_each, 1, 1), LinearConstraint(within, 0, room / unit)], options={"mip_rel_gap": 1e-6},
    )  # fmt: skip
    if solved.x is None:
        raise RuntimeError(f"the choice of bits has no solution ({solved.message}); every layer needs a grid among its trials")
    return {name: trials[name][i] for (name, i), used in zip(flat, solved.x, strict=True) if round(used)}
