"""Which levers every layer of a hybrid plan uses on a target: times first, then divergences, then the choice, then the whole.

    candidates -> times (measured on the target) -> those that save time -> KL of each alone -> the fastest selection within the allowance
    -> KL of the whole network under it; above the budget, the same with a smaller allowance
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np

from tvm_rsq.calibration_set import CalibrationSet
from tvm_rsq.choose_candidates import Option, Selection, SharedChain, choose_candidates
from tvm_rsq.choose_schemes import allowance, expected_excess
from tvm_rsq.executor import Executor
from tvm_rsq.layer_facts import Candidate, LayerFacts
from tvm_rsq.layer_override import LayerOverride
from tvm_rsq.layer_plans import Decision, permitted
from tvm_rsq.layer_record import Alternative
from tvm_rsq.lever_times import LeverTimes
from tvm_rsq.progress import ProgressCallback
from tvm_rsq.report.formats import cost, nats, percent
from tvm_rsq.sensitivity import LayerSensitivity, NetworkDivergence, measure
from tvm_rsq.shared_scales import Chain, share_scale
from tvm_rsq.targets.workload import Conv2DWorkload
from tvm_rsq.tensor_quant import TensorQuant
from tvm_rsq.timed_target import TimedTarget
from tvm_rsq.weight_grid import WeightGrid

FRONTIER = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)  # budgets
_MOST = 2.0  # times the baseline's divergence, whatever chance explains
_TIGHTENED = (1.0, 0.7, 0.5, 0.35, 0.25, 0.12, 0.06, 0.0)  # of the allowance, until the whole network is within the budget


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontierPoint:
    """The fastest selection within a budget.   time_us: of all layers; excess: nats, summed over layers; kl: nats, of the whole network"""

    budget: float
    time_us: float
    excess: float
    kl: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LeverPlan:
    """decisions: layer -> its own; tensors: with the scales that chains share; frontier: baseline first, budgets ascending."""

    decisions: Mapping[str, Decision]
    tensors: Mapping[str, TensorQuant]
    frontier: tuple[FrontierPoint, ...]


class Weight(NamedTuple):
    """A quantized weight, kept small: int8 integers and their scale."""

    layer: LayerFacts
    integers: np.ndarray
    grid: WeightGrid

    def real(self) -> np.ndarray:
        return self.layer.real(self.integers, self.grid)


@dataclass(kw_only=True)
class LeverSearch:
    """One search.

    facts      layers that are quantized; base: their baselines; said: the user's word on them
    chains     residual chains that may share a scale
    workloads  layer -> what the baseline asks the library for
    """

    facts: Sequence[LayerFacts]
    base: Mapping[str, Candidate]
    said: Mapping[str, LayerOverride]
    tensors: Mapping[str, TensorQuant]
    chains: Sequence[Chain]
    workloads: Mapping[str, Conv2DWorkload]
    use: frozenset[str]
    timed: TimedTarget
    calibration: CalibrationSet
    executor: Executor
    budget: float
    progress: ProgressCallback
    weights: dict[tuple[str, Candidate, float, float], Weight | None] = field(default_factory=dict)
    samples: dict[tuple[object, ...], np.ndarray] = field(default_factory=dict)
    ratios: dict[str, dict[Candidate, float]] = field(default_factory=dict)  # of squared errors of weights, see LayerSensitivity

    def run(self) -> LeverPlan:
        chain_of = {layer: chain for chain in self.chains for layer in chain.layers}
        lever_times = LeverTimes(
            base=self.base, said=self.said, tensors=self.tensors, workloads=self.workloads, use=self.use, timed=self.timed
        )  # fmt: skip
        times = lever_times.of(self.facts, chain_of, self.progress)
        kl = self._divergences(times, chain_of)
        options = {layer.name: self._options(layer, times[layer.name], kl[layer.name]) for layer in self.facts}
        chains = [SharedChain(chain=chain, excess=self._chain_excess(chain)) for chain in self.chains]
        found = [LayerSensitivity(name, math.inf, values[self.base[name]]) for name, values in kl.items()]
        selection = self._within_budget(options, chains, allowance(found, self.budget))
        points = [(part, choose_candidates(options, chains, allowance(found, part))) for part in FRONTIER]
        baseline = Selection(taken={name: choices[0] for name, choices in options.items()})
        frontier = tuple(
            FrontierPoint(budget=budget, time_us=s.time_us, excess=s.excess, kl=self._whole(s)) for budget, s in [(0.0, baseline), *points]
        )
        decisions = {layer.name: self._decision(layer.name, options, kl, selection) for layer in self.facts}
        return LeverPlan(decisions=decisions, tensors=self._shared(selection.shared), frontier=frontier)

    def _divergences(
        self, times: Mapping[str, Mapping[tuple[Candidate, bool | None], float]], chain_of: Mapping[str, Chain]
    ) -> dict[str, dict[Candidate, float]]:
        """Layer -> candidate -> KL of the layer alone; infinite where the weights permit no such thing."""
        wanted: dict[str, list[Candidate]] = {}
        trials: dict[str, list[Callable[[], np.ndarray]]] = {}
        for layer in self.facts:
            base = self.base[layer.name]
            both = [replace(base, scheme=scheme) for scheme in ("per_channel", "per_tensor")]  # always, for the report
            # The last one wins: with a shared scale where one is needed.
            tensors = {c: share_scale(self.tensors, chain_of[layer.name]) if shared else self.tensors for c, shared in times[layer.name]}
            tensors = {**{c: self.tensors for c in both}, **tensors}
            made = {c: weight for c, used in tensors.items() if (weight := self._weight(layer, c, used)) is not None}
            wanted[layer.name] = list(made)
            trials[layer.name] = [weight.real for weight in made.values()]
            self.ratios[layer.name] = {c: layer.error_ratio(made[c].real(), made[base].real()) for c in wanted[layer.name]}
        found = measure(self.executor.model, self.calibration, self.tensors, trials, executor=self.executor, progress=self.progress)
        return {name: dict(zip(wanted[name], values, strict=True)) for name, values in found.items()}

    def _options(
        self, layer: LayerFacts, times: Mapping[tuple[Candidate, bool | None], float], kl: Mapping[Candidate, float]
    ) -> list[Option]:
        base = self.base[layer.name]

        def excess(candidate: Candidate) -> float:
            if candidate == base:
                return 0.0
            return expected_excess(kl.get(candidate, math.inf), kl[base], self.ratios[layer.name].get(candidate, math.inf))

        return [Option(candidate=c, time_us=time, excess=excess(c), shared=shared) for (c, shared), time in times.items()]

    def _chain_excess(self, chain: Chain) -> float:
        """What one scale costs: KL with the chain's tensors alone quantized, beyond what it is with their own scales."""
        shared = share_scale(self.tensors, chain)
        own, one = (self._network.samples({name: used[name] for name in chain.tensors}, {}).mean() for used in (self.tensors, shared))
        return max(0.0, float(one - own))

    @cached_property
    def _network(self) -> NetworkDivergence:
        return NetworkDivergence(self.calibration, executor=self.executor)

    def _within_budget(self, options: Mapping[str, Sequence[Option]], chains: Sequence[SharedChain], nats: float) -> Selection:
        baseline = Selection(taken={name: choices[0] for name, choices in options.items()})
        for part in _TIGHTENED:
            selection = choose_candidates(options, chains, part * nats)
            if self._within(selection, baseline):
                return selection
        return baseline

    def _within(self, selection: Selection, baseline: Selection) -> bool:
        """Whether the whole network diverges by no more than the budget allows, as far as these samples can tell."""
        self._whole(selection), self._whole(baseline)
        return not exceeds(self.samples[self._key(selection)], self.samples[self._key(baseline)], self.budget)

    def _whole(self, selection: Selection) -> float:
        """KL of the network with everything quantized as selected."""
        key = self._key(selection)
        if key not in self.samples:
            tensors = self._shared(selection.shared)
            weights = {}
            for layer in self.facts:
                candidate, _ = permitted(layer, selection.taken[layer.name].candidate, tensors)
                found = self._weight(layer, candidate, tensors) or self._weight(layer, replace(candidate, requantize="float"), tensors)
                assert found is not None, "a free multiplier has a scale for any weights"
                weights[layer.name] = found.real()
            self.samples[key] = self._network.samples(tensors, weights)
        return float(self.samples[key].mean())

    @staticmethod
    def _key(selection: Selection) -> tuple[object, ...]:
        return (*((name, option.candidate) for name, option in selection.taken.items()), selection.shared)

    def _shared(self, chains: Sequence[Chain]) -> Mapping[str, TensorQuant]:
        tensors = self.tensors
        for chain in chains:
            tensors = share_scale(tensors, chain)
        return tensors

    def _weight(self, layer: LayerFacts, candidate: Candidate, tensors: Mapping[str, TensorQuant]) -> Weight | None:
        """The layer's weight under a candidate, None where it has no scale."""
        output = tensors[layer.output].scale if candidate.requantize == "shift" else 0.0
        key = (layer.name, candidate, tensors[layer.input].scale, output)
        if key not in self.weights:
            grid = layer.fit(candidate, tensors)
            self.weights[key] = None if grid is None else Weight(layer, layer.integers(candidate, grid), grid)
        return self.weights[key]

    def _decision(
        self, name: str, options: Mapping[str, Sequence[Option]], kl: Mapping[str, Mapping[Candidate, float]], selection: Selection
    ) -> Decision:
        base, taken = options[name][0], selection.taken[name]
        considered = tuple(
            Alternative(
                scheme=o.candidate.scheme, requantize=o.candidate.requantize, accumulate16=o.candidate.accumulate16,
                shared_residual=bool(o.shared), kl=kl[name].get(o.candidate), time_us=o.time_us,
            )
            for o in options[name]
        )  # fmt: skip
        return Decision(
            candidate=taken.candidate, reason=_reason(base, taken, len(options[name]), self.timed.measure), time_us=taken.time_us,
            considered=considered,
            kl_per_tensor=kl[name].get(replace(base.candidate, scheme="per_tensor")),
            kl_per_channel=kl[name].get(replace(base.candidate, scheme="per_channel")),
        )  # fmt: skip


def _reason(base: Option, taken: Option, count: int, measure: str) -> str:
    if taken.candidate == base.candidate and not taken.shared:
        what = "time" if measure == "time" else measure.replace("-", " ")
        return f"nothing saves 2 % of its {what}" if count == 1 else f"what saves {what} is beyond budget"
    return f"{percent(1 - taken.time_us / base.time_us, 0)} of {cost(base.time_us, measure)} saved, +{nats(taken.excess)} nats"


def exceeds(divergences: np.ndarray, baseline: np.ndarray, budget: float) -> bool:
    """Whether divergences (nats per sample, float64 (N,)) are beyond (1 + budget) * the baseline's, by more than chance explains.

    A change of any layer moves the divergence of a single image up or down by much more than the budget. So the samples are compared
    in pairs, and the mean excess has to be more than two of its standard errors. A few broken samples make that error large: whatever it
    is, a mean beyond _MOST times the baseline's is beyond the budget, and so is one that is not finite.
    """
    if not np.isfinite(divergences).all() or divergences.mean() > max(_MOST, 1 + budget) * baseline.mean():
        return True
    excess = divergences - (1 + budget) * baseline
    error = excess.std(ddof=1) / np.sqrt(len(excess)) if len(excess) > 1 else 0.0
    return bool(excess.mean() > 2 * error)
