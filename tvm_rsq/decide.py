"""Everything that is decided about a network, in order: equalization, the plan, rounding, bias correction.

deploy form --equalize--> the same function, friendlier to grids --make_plan--> scales of tensors and weights
    --round--> weights on their grids --correct biases--> parameters of the integer network

Rounding by reconstruction learns biases and scales of activations too: the plan is then the one with these scales.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Literal

import numpy as np

from tvm_rsq.adopt_reconstruction import adopt_reconstruction
from tvm_rsq.bias_correction import correct_biases
from tvm_rsq.bias_correction_analytic import CorrectedBiases, correct_biases_analytically
from tvm_rsq.calibration_doubts import calibration_doubts
from tvm_rsq.calibration_set import CalibrationSet
from tvm_rsq.config import QuantConfig
from tvm_rsq.equalize import equalize
from tvm_rsq.errors import ConfigError
from tvm_rsq.layer_statistics import NormalStatistics, batch_norm_of_layers
from tvm_rsq.model import Model
from tvm_rsq.plan import QuantPlan
from tvm_rsq.planner import make_plan
from tvm_rsq.progress import Progress, ProgressCallback, silent
from tvm_rsq.recipe import LEARNED, NOISE, Recipe, recipe
from tvm_rsq.reconstruct import LEARNED_BITS, reconstruct
from tvm_rsq.reconstruction_budget import Budget
from tvm_rsq.round_weights import feedback, nearest, squant
from tvm_rsq.timed_target import TimedTarget


@dataclass(frozen=True, kw_only=True, eq=False)
class Decided:
    """plan: of the deploy form; adjusted: parameters that the integer network is made from in place of its own (see QuantizedModel)"""

    plan: QuantPlan
    adjusted: Mapping[str, np.ndarray]


def known_statistics(source: Model, config: QuantConfig) -> Mapping[str, NormalStatistics]:
    """`batch_norm_of_layers`.   ConfigError: the configuration needs batch norms, and there are none."""
    found = batch_norm_of_layers(source)
    for name, needs, instead in (("bias_correction", "analytic", "empirical"), ("range_method", "sigma", "mse")):
        if getattr(config, name) == needs and not found:
            raise ConfigError(
                f'{name} is "{needs}", which needs batch norms behind layers, and this network has none (exporters may fold them '
                f'away); use "{instead}", or a network that keeps them'
            )
    return found


def decide(
    source: Model, deploy: Model, calibration: CalibrationSet, config: QuantConfig, progress: ProgressCallback = silent,
    *, timed: TimedTarget | None = None, should_stop: Callable[[], bool] | None = None, budget: Budget | None = None,
) -> Decided:  # fmt: skip
    """source: canonical form, whose batch norms tell the statistics of training; deploy: the form that is quantized.

    should_stop, budget  of reconstruction, see `reconstruct`
    ConfigError, ModelError: as `known_statistics` and `make_plan`.
    """
    statistics = known_statistics(source, config)
    chosen = recipe(config, calibration.source, bool(statistics))
    ready = equalize(deploy, statistics, calibration, chosen.equalization)
    model = ready.model
    plan = make_plan(model, calibration, config, progress, timed=timed, statistics=ready.statistics)
    notes = [*calibration_doubts(calibration), *ready.notes, *plan.notes, *_without_effect(config, calibration, chosen, model, plan)]
    start = _start(plan, calibration) if chosen.rounding in LEARNED else chosen.rounding
    adjusted = _rounded(model, plan, calibration, start)
    progress(Progress(stage="rounding", done=1, total=1))
    if chosen.rounding in LEARNED:
        progress(Progress(stage="reconstruction", done=0, total=1))  # from now on it can be stopped
        learned = reconstruct(
            model, plan, calibration, adjusted=adjusted, seed=config.seed, layerwise=chosen.rounding == "adaround", augment=config.augment,
            budget=budget, progress=progress, should_stop=should_stop,
        )  # fmt: skip
        adopted = adopt_reconstruction(model, plan, learned)
        plan, adjusted = adopted.plan, dict(adopted.adjusted)
        notes += adopted.notes
        late = recipe(config.replace(rounding=start), calibration.source, bool(statistics)).bias_correction
        if not learned.blocks:
            chosen = replace(chosen, rounding=start, bias_correction=late)
        elif learned.unreached and late == "empirical" != chosen.bias_correction:  # blocks that had no turn have no learned biases either
            corrected = correct_biases(model, plan.tensors, adjusted, calibration)
            adjusted |= {name: value for name, value in corrected.items() if name in learned.unreached}
    if chosen.bias_correction == "empirical":
        adjusted |= correct_biases(model, plan.tensors, adjusted, calibration)
        progress(Progress(stage="bias correction", done=1, total=1))
    elif chosen.bias_correction == "analytic":
        analytic = correct_biases_analytically(model, adjusted, ready.statistics)
        adjusted |= analytic.params
        notes += _skipped(analytic)
    changed = {name: value for name, value in model.params.items() if value is not deploy.params[name]}
    provenance = {**plan.provenance, **asdict(chosen)} | ({"notes": notes} if notes else {})
    return Decided(plan=replace(plan, network_hash=deploy.network_hash, provenance=provenance), adjusted={**changed, **adjusted})


def _rounded(model: Model, plan: QuantPlan, calibration: CalibrationSet, rounding: str) -> dict[str, np.ndarray]:
    if rounding == "squant":
        return squant(model, plan)
    if rounding == "feedback":
        return feedback(model, plan, calibration)
    return nearest(model, plan)


def _start(plan: QuantPlan, calibration: CalibrationSet) -> Literal["squant", "feedback"]:
    """The rounding that is learned from. Feedback fits what layers read on the data: noise is no such thing, and with coarse activations
    it would fit their errors, which learned scales change."""
    coarse = any(quant.bits < LEARNED_BITS for quant in plan.tensors.values())
    return "squant" if coarse or calibration.source in NOISE else "feedback"


def _without_effect(config: QuantConfig, calibration: CalibrationSet, chosen: Recipe, model: Model, plan: QuantPlan) -> list[str]:
    """What the user asked for and nothing comes of."""
    found = []
    quantized = {layer.name: model.params[layer.name].size for layer in plan.layers if layer.scheme != "float"}
    share = config.eight_bit_share
    if not config.mixed and config.low and quantized and 0 < share * sum(quantized.values()) < min(quantized.values()):
        least = min(quantized.values()) / sum(quantized.values())
        found.append(f"eight_bit_share {share:g} has no effect: the smallest layer has {least:.2g} of all weights")
    if (config.mixed or not config.low) and share != QuantConfig().eight_bit_share:
        why = "every layer has bits of its own" if config.mixed else "weight_bits is 8"
        found.append(f"eight_bit_share {share:g} has no effect: {why}")
    if config.codebook_error == "output" and not any(layer.codebook for layer in plan.layers):
        found.append("codebook_error output has no effect: no layer has a codebook")
    if config.codebook_channels is not None and all(len(layer.codebook) < 2 for layer in plan.layers):
        found.append(f"codebook_channels {config.codebook_channels} has no effect: no layer has several codebooks")
    if config.effort == "best" and calibration.source == "real" and chosen.rounding not in LEARNED:
        found.append(f"effort best has no effect: images are given, and rounding is {chosen.rounding}, which learns nothing")
    return found


def _skipped(corrected: CorrectedBiases) -> list[str]:
    if not corrected.skipped:
        return []
    reasons = ", ".join(f"{reason} ({count})" for reason, count in Counter(corrected.skipped.values()).items())
    total = len(corrected.skipped) + len(corrected.params)
    return [f"analytic bias correction leaves {len(corrected.skipped)} of {total} layers as they are: {reasons}"]
