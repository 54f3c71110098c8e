"""Make the plan: deploy-form network + calibration set + configuration -> QuantPlan.

ranges of every stored tensor -> sensitivity of every layer -> how every layer is computed (overrides last) -> scales.
Without a target only granularity is decided; with one, every lever that it has, by measured time (see plan_levers).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict, replace
from functools import partial
from typing import Any

from tvm_rsq.calibration import calibrate
from tvm_rsq.calibration_set import CalibrationSet
from tvm_rsq.candidates import usable_levers
from tvm_rsq.choose_grids import GridChoice, Grids
from tvm_rsq.choose_schemes import allowance, choose
from tvm_rsq.config import QuantConfig
from tvm_rsq.float_islands import float_islands
from tvm_rsq.layer_facts import Candidate, LayerFacts, layer_facts
from tvm_rsq.layer_override import LAYER_SCHEMES, LayerOverride
from tvm_rsq.layer_plans import Decision, fitted, layer_plan
from tvm_rsq.layer_statistics import NormalStatistics
from tvm_rsq.layer_workloads import layer_workloads
from tvm_rsq.model import Model
from tvm_rsq.origins import origins
from tvm_rsq.passes.dataflow import Dataflow
from tvm_rsq.passes.find_islands import find_islands
from tvm_rsq.plan import QuantPlan
from tvm_rsq.plan_levers import LeverPlan, LeverSearch
from tvm_rsq.progress import ProgressCallback, silent
from tvm_rsq.recipe import LEARNED, recipe
from tvm_rsq.resolve_overrides import layer_names, resolve_overrides
from tvm_rsq.sensitivity import LayerSensitivity, affordable, measure
from tvm_rsq.shared_scales import residual_chains
from tvm_rsq.standardized_executor import observer
from tvm_rsq.tensor_quant import TensorQuant
from tvm_rsq.timed_target import TimedTarget
from tvm_rsq.trained_ranges import as_trained
from tvm_rsq.weight_importance import weight_importance

log = logging.getLogger(__name__)

INPUT_BITS = 8  # of the network's input: it comes from bytes, and one tensor of 8 bits costs nothing


def make_plan(
    model: Model, calibration: CalibrationSet, config: QuantConfig, progress: ProgressCallback = silent, *,
    timed: TimedTarget | None = None, statistics: Mapping[str, NormalStatistics] | None = None,
) -> QuantPlan:  # fmt: skip
    """The plan of `model` (deploy form).   ConfigError: an override that matches no layer. ModelError: a layer too wide for int32.

    timed       the target, where its kernels can be timed; it matters to scheme "hybrid" alone
    statistics  of the layers' outputs in training, where they are known: for ranges that synthetic data cannot tell (see silent_channels)
    """
    return _Planner(model, calibration, config, progress, timed, statistics or {}).run()


class _Planner:
    def __init__(
        self, model: Model, calibration: CalibrationSet, config: QuantConfig, progress: ProgressCallback, timed: TimedTarget | None,
        statistics: Mapping[str, NormalStatistics],
    ) -> None:  # fmt: skip
        self.model, self.calibration, self.config, self.progress, self.timed = model, calibration, config, progress, timed
        self.statistics, self.recipe = statistics, recipe(config, calibration.source, bool(statistics))
        self.executor, self.view = observer(model, statistics, calibration), Dataflow(model.module)
        self.said = resolve_overrides(config.overrides, layer_names(model))
        self.islands = find_islands(self.view, {name for name, override in self.said.items() if override.scheme == "float"})
        self.own_bits = self._own_bits()
        self.origin = origins(self.view, self.islands, self.own_bits)
        self.facts = self._facts()
        self.grids = Grids(bits={layer.name: layer.bits for layer in self.facts})
        instant = config.effort == "instant"
        self.judged = affordable(calibration, sum(layer.macs for layer in self.facts)) if instant else calibration

    def run(self) -> QuantPlan:
        tensors = self._activations()
        base = {layer.name: self._fixed(layer).candidate for layer in self.facts}
        if self.config.codebook_error == "output" and (self.config.nonuniform or any(word.grid for word in self.said.values())):
            importance = weight_importance(self.executor, self.judged, self.facts)
            self.facts = tuple(replace(layer, importance=importance[layer.name]) for layer in self.facts)
        self.grids = GridChoice(
            facts=self.facts, said=self.said, base=base, tensors=tensors, calibration=self.judged, executor=self.executor,
            config=self.config, squant=self.recipe.rounding == "squant", learned=self.recipe.rounding in LEARNED, progress=self.progress,
        ).made()  # fmt: skip
        self.facts = tuple(replace(layer, bits=self.grids.bits[layer.name]) for layer in self.facts)
        found: LeverPlan | None = None
        if self.config.scheme != "hybrid":
            decisions = {layer.name: self._fixed(layer) for layer in self.facts}
        elif self.timed is not None and uses_levers(self.config):
            found = self._with_levers(tensors, self.timed)
            tensors = dict(found.tensors)
            decisions = {**{layer.name: self._fixed(layer) for layer in self.facts}, **found.decisions}
        else:
            decisions = self._granularity(tensors)
        return self._plan(tensors, decisions, found)

    def _plan(self, tensors: Mapping[str, TensorQuant], decisions: Mapping[str, Decision], found: LeverPlan | None) -> QuantPlan:
        layers = tuple(layer_plan(layer, self._with_grid(layer, decisions[layer.name]), tensors) for layer in self.facts)
        log.info("%d layers: %s", len(layers), {scheme: sum(layer.scheme == scheme for layer in layers) for scheme in LAYER_SCHEMES})
        config, calibration = self.config, self.calibration
        frontier: dict[str, Any] = {}
        if found and found.decisions and self.timed:
            points = [asdict(point) for point in found.frontier]
            frontier = {"target": self.timed.name, "measure": self.timed.measure, "frontier": points}
        return QuantPlan(
            network_hash=self.model.network_hash,
            layers=layers,
            tensors=tensors,
            float_islands=float_islands(self.view, self.islands),
            provenance={
                "scheme": config.scheme, "weight_bits": None if config.mixed else config.weight_bits, "average_bits": config.average_bits,
                "most_divergence": config.most_divergence, "activation_bits": config.activation_bits,
                "eight_bit_share": config.eight_bit_share, "nonuniform": config.nonuniform,
                "codebook_error": config.codebook_error, "codebook_channels": config.codebook_channels, "augment": config.augment,
                "budget": config.budget, "levers": config.levers if isinstance(config.levers, str) else list(config.levers),
                "requantize": config.requantize, "range_method": config.range_method, "effort": config.effort, "seed": config.seed,
                **asdict(self.recipe),
                "calibration_source": calibration.source, "calibration_samples": len(calibration), "judged_samples": len(self.judged),
                "calibration_notes": list(calibration.notes), "notes": list(self.grids.notes), **frontier,
            },
        )  # fmt: skip

    def _facts(self) -> tuple[LayerFacts, ...]:
        bits = {layer.name: self._word(layer.name).weight_bits or self.config.weight_bits for layer in self.executor.layers}
        return layer_facts(
            self.model, self.executor, self.view, self.islands, bits, mse=self.recipe.weight_range == "mse",
            book_channels=self.config.codebook_channels,
        )  # fmt: skip

    def _with_grid(self, layer: LayerFacts, decision: Decision) -> Decision:
        why = self.grids.why.get(layer.name, ())
        return replace(decision, reason="; ".join((decision.reason, *why)), grids=self.grids.trials.get(layer.name, ()))

    def _word(self, layer: str) -> LayerOverride:
        return self.said.get(layer, LayerOverride())

    def _base(self, layer: LayerFacts, scheme: str) -> Candidate:
        """What the layer is without levers: `scheme`, unless the user says otherwise."""
        said = self._word(layer.name)
        return Candidate(
            scheme=said.scheme or scheme,  # type: ignore[arg-type]
            requantize=said.requantize or self.config.requantize,
            accumulate16=said.accumulate16 or 0,
            nonuniform=layer.name in self.grids.codebooks,
        )

    def _fixed(self, layer: LayerFacts) -> Decision:
        scheme = self.config.scheme if self.config.scheme != "hybrid" else "per_channel"
        said = self._word(layer.name).scheme
        reason = f"{said} by override" if said else f"{scheme} for every layer"
        return Decision(candidate=self._base(layer, scheme), reason=reason)

    def _granularity(self, tensors: Mapping[str, TensorQuant]) -> dict[str, Decision]:
        """Per tensor where that is within the budget."""
        open_layers = [layer for layer in self.facts if self._word(layer.name).scheme is None]
        trials, ratios = {}, {}
        for layer in open_layers:
            ways = [fitted(layer, self._base(layer, scheme), tensors)[:2] for scheme in ("per_tensor", "per_channel")]
            trials[layer.name] = [partial(layer.real, layer.integers(c, grid), grid) for c, grid in ways]
            ratios[layer.name] = layer.error_ratio(*(make() for make in trials[layer.name]))
        values = measure(self.model, self.judged, tensors, trials, executor=self.executor, progress=self.progress) if trials else {}
        found = [LayerSensitivity(name, per_tensor, per_channel, ratios[name]) for name, (per_tensor, per_channel) in values.items()]
        schemes = choose(found, allowance(found, self.config.budget))
        decisions = {layer.name: self._fixed(layer) for layer in self.facts}
        for kl, layer in zip(found, open_layers, strict=True):
            scheme, reason = schemes[layer.name]
            candidate = replace(decisions[layer.name].candidate, scheme=scheme)
            decisions[layer.name] = Decision(candidate=candidate, reason=reason, kl_per_tensor=kl.per_tensor, kl_per_channel=kl.per_channel)
        return decisions

    def _with_levers(self, tensors: Mapping[str, TensorQuant], timed: TimedTarget) -> LeverPlan:
        use = usable_levers(self.config.levers, timed.levers)
        facts = [layer for layer in self.facts if not layer.in_float]
        fixed = {layer.name: self._fixed(layer) for layer in self.facts}
        base = {layer.name: fitted(layer, fixed[layer.name].candidate, tensors)[0] for layer in facts}
        baseline = self._plan(tensors, fixed, None)
        inputs = [spec.name for spec in self.model.inputs]
        chains = residual_chains(facts, tensors, self.origin, inputs) if "shared_residual" in use else ()
        return LeverSearch(
            facts=facts, base=base, said=self.said, tensors=tensors, chains=chains,
            workloads=layer_workloads(self.model, baseline, timed.carrier), use=use, timed=timed,
            calibration=self.judged, executor=self.executor, budget=self.config.budget, progress=self.progress,
        ).run()  # fmt: skip

    def _own_bits(self) -> dict[str, int]:
        """Bits of the tensors that have a word of their own on them."""
        bits = {spec.name: INPUT_BITS for spec in self.model.inputs}
        for island in self.islands.islands:
            if island.layer and (said := self._word(island.layer).activation_bits):
                bits[island.output] = said
        return bits

    def _activations(self) -> dict[str, TensorQuant]:
        """Quantization of every stored tensor; several may share that of one, see origins."""
        config, islands = self.config, self.islands
        needed = dict.fromkeys([name for name in islands.quantized if self.origin[name] == name] + list(self.origin.values()))
        ranges = calibrate(
            self.model, self.calibration, list(needed), method=config.range_method, bits=config.activation_bits,
            executor=self.executor, progress=self.progress,
        )  # fmt: skip
        known = as_trained(
            ranges.ranges, self.statistics, self.calibration, executor=self.executor, view=self.view, islands=islands, origin=self.origin,
            sigma=config.range_method == "sigma",
        )  # fmt: skip
        ranges = replace(ranges, ranges=known)
        found = ranges.quantize(config.activation_bits, self.own_bits)
        return {name: found[self.origin[name]] for name in islands.quantized}


def uses_levers(config: QuantConfig) -> bool:
    """Whether a plan of this configuration depends on its target."""
    return config.scheme == "hybrid" and config.levers not in ("none", ())
