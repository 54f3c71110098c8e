"""Choosing one way to compute every layer: the least time within an allowance of divergence, as an integer program.

    minimise    sum over layers of the time of the option taken
    subject to  one option a layer
                sum of the excesses of the options taken + sum of the excesses of the chains shared <= allowance
                an option that shares its residual's scale only with its chain shared, one that does not only without

Divergences of layers add up only roughly, so the plan is measured as a whole afterwards (see plan_levers).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tvm_rsq.errors import ConfigError
from tvm_rsq.layer_facts import Candidate
from tvm_rsq.shared_scales import Chain


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """A candidate of one layer.

    time_us  of its kernel; excess: nats beyond the layer's baseline, at least 0, infinity where it is no option
    shared   whether it needs (True) or excludes (False) that its residual has the output's scale; None: no matter
    """

    candidate: Candidate
    time_us: float
    excess: float
    shared: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedChain:
    """A residual chain that may share one scale, and what that costs, in nats."""

    chain: Chain
    excess: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """taken: layer -> its option; shared: the chains that share a scale."""

    taken: Mapping[str, Option]
    shared: tuple[Chain, ...] = ()
    excess: float = 0.0

    @property
    def time_us(self) -> float:
        """Of the layers' kernels, one after the other."""
        return math.fsum(option.time_us for option in self.taken.values())


def choose_candidates(options: Mapping[str, Sequence[Option]], chains: Sequence[SharedChain], nats: float) -> Selection:
    """The fastest selection whose excesses sum to `nats` at most; equal inputs give equal selections, and equal times the least excess.

    options  layer -> what it may become, the baseline first, which has no excess and shares nothing
    ConfigError: a negative allowance.
    """
    if not nats >= 0:
        raise ConfigError(f"the budget is {nats!r} nats, expected at least 0")
    possible = {layer: [o for o in found if math.isfinite(o.excess)] for layer, found in options.items()}
    usable = [found for found in chains if math.isfinite(found.excess)]
    flat = [(layer, option) for layer, found in possible.items() for option in found]
    if not flat:
        return Selection(taken={})
    chosen = _solve(flat, usable, nats)
    taken = {layer: option for (layer, option), used in zip(flat, chosen, strict=False) if used}
    shared = [found for found, used in zip(usable, chosen[len(flat) :], strict=True) if used]
    excess = math.fsum([option.excess for option in taken.values()] + [found.excess for found in shared])
    return Selection(taken=taken, shared=tuple(found.chain for found in shared), excess=excess)


def _solve(flat: Sequence[tuple[str, Option]], chains: Sequence[SharedChain], nats: float) -> list[bool]:
    # Imported where it is needed: half a second that `import tvm_rsq` should not cost.
    from scipy.optimize import Bounds, LinearConstraint, milp

    count = len(flat) + len(chains)
    times = np.array([option.time_us for _, option in flat] + [0.0] * len(chains))
    excess = np.array([option.excess for _, option in flat] + [found.excess for found in chains])
    rows, lower, upper = [], [], []

    def constrain(entries: Mapping[int, float], low: float, high: float) -> None:
        row = np.zeros(count)
        row[list(entries)] = list(entries.values())
        rows.append(row)
        lower.append(low)
        upper.append(high)

    for layer in dict.fromkeys(layer for layer, _ in flat):
        constrain({i: 1.0 for i, (other, _) in enumerate(flat) if other == layer}, 1, 1)
    chain_of = {layer: len(flat) + i for i, found in enumerate(chains) for layer in found.chain.layers}
    for i, (layer, option) in enumerate(flat):
        if option.shared is True and layer in chain_of:
            constrain({i: 1.0, chain_of[layer]: -1.0}, -np.inf, 0)
        elif option.shared is True:
            constrain({i: 1.0}, 0, 0)
        elif option.shared is False and layer in chain_of:
            constrain({i: 1.0, chain_of[layer]: 1.0}, -np.inf, 1)
    # In units of the allowance, which may be far below the solver's tolerance.
    scale = nats if nats > 0 else 1.0
    free = np.where(excess > (0 if nats == 0 else scale), 0.0, 1.0)
    constrain(dict(enumerate(np.minimum(excess / scale, 2.0))), 0, 1.0 if nats > 0 else 0.0)
    # Of equal times the more accurate one: a hundredth of a nanosecond for the whole allowance.
    cost = times + 1e-5 * np.minimum(excess / scale, 2.0)
    found = milp(
        cost, constraints=LinearConstraint(np.array(rows), lower, upper), integrality=np.ones(count), bounds=Bounds(0, free),
        options={"mip_rel_gap": 0.0},
    )  # fmt: skip
    if found.x is None:
        raise RuntimeError(f"the choice of kernels has no solution ({found.message}); every layer needs its baseline among its options")
    return [bool(round(value)) for value in found.x]
