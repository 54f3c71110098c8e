"""Everything that is decided about a network, in order: equalization, the plan, rounding, bias correction.

deploy form --equalize--> the same function, friendlier to grids --make_plan--> scales of tensors and weights
    --round--> weights on their grids --correct biases--> parameters of the integer network
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from tvm_rsq.bias_correction import correct_biases
from tvm_rsq.calibration_set import CalibrationSet
from tvm_rsq.config import QuantConfig
from tvm_rsq.equalize_activations import equalize_activations
from tvm_rsq.layer_statistics import batch_norm_of_layers
from tvm_rsq.model import Model
from tvm_rsq.passes.dataflow import Dataflow
from tvm_rsq.passes.find_islands import find_islands
from tvm_rsq.plan import QuantPlan
from tvm_rsq.planner import TimedTarget, make_plan
from tvm_rsq.progress import Progress, ProgressCallback, silent
from tvm_rsq.recipe import Recipe, recipe
from tvm_rsq.round_weights import feedback, nearest, squant


@dataclass(frozen=True, kw_only=True, eq=False)
class Decided:
    """plan: of the deploy form; adjusted: parameters that the integer network is made from in place of its own (see QuantizedModel)"""

    plan: QuantPlan
    adjusted: Mapping[str, np.ndarray]


def decide(
    source: Model, deploy: Model, calibration: CalibrationSet, config: QuantConfig, progress: ProgressCallback = silent,
    *, timed: TimedTarget | None = None,
) -> Decided:  # fmt: skip
    """source: canonical form, whose batch norms tell the statistics of training; deploy: the form that is quantized.

    ConfigError, ModelError: as `make_plan`.
    """
    statistics = dict(batch_norm_of_layers(source))
    chosen = recipe(config, calibration.source)
    model = deploy
    if chosen.equalization == "activations":
        equalized = equalize_activations(deploy, calibration, find_islands(Dataflow(deploy.module), ()).quantized)
        model, statistics = equalized.model, equalized.statistics(statistics)
    plan = make_plan(model, calibration, config, progress, timed=timed, statistics=statistics)
    adjusted = _rounded(model, plan, calibration, chosen)
    progress(Progress(stage="rounding", done=1, total=1))
    if chosen.bias_correction == "empirical":
        adjusted |= correct_biases(model, plan.tensors, adjusted, calibration)
        progress(Progress(stage="bias correction", done=1, total=1))
    changed = {name: value for name, value in model.params.items() if value is not deploy.params[name]}
    return Decided(plan=replace(plan, network_hash=deploy.network_hash), adjusted={**changed, **adjusted})


def _rounded(model: Model, plan: QuantPlan, calibration: CalibrationSet, chosen: Recipe) -> dict[str, np.ndarray]:
    if chosen.rounding == "squant":
        return squant(model, plan)
    if chosen.rounding == "feedback":
        return feedback(model, plan, calibration)
    return nearest(model, plan)
