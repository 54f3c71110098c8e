"""The network that is quantized: the same function with channels that fit their grids better, by the method that a recipe names.

activations  see equalize_activations
outlying     its part for weights that dwarf all others (see outlying_inputs)
weights      see equalize_weights, which keeps every relu6 here, and absorb_bias, as far as batch norms tell what there is to absorb
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from tvm_rsq.absorb_bias import absorb_bias
from tvm_rsq.calibration_set import CalibrationSet
from tvm_rsq.equalize_activations import equalize_activations
from tvm_rsq.equalize_weights import equalize_weights
from tvm_rsq.layer_statistics import NormalStatistics
from tvm_rsq.model import Model
from tvm_rsq.passes.dataflow import Dataflow
from tvm_rsq.passes.find_islands import find_islands
from tvm_rsq.standardized_executor import observer


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EqualizedNetwork:
    """model: with other parameters; statistics: of its layers' outputs; notes: one-line remarks for the report"""

    model: Model
    statistics: Mapping[str, NormalStatistics]
    notes: tuple[str, ...] = ()


def equalize(
    deploy: Model, statistics: Mapping[str, NormalStatistics], calibration: CalibrationSet,
    method: Literal["none", "activations", "outlying", "weights"],
) -> EqualizedNetwork:  # fmt: skip
    """deploy: left alone; statistics: of its layers' outputs, what `batch_norm_of_layers` found in its source"""
    if method == "weights":
        return _weights(deploy, statistics)
    if method in ("activations", "outlying"):
        stored = find_islands(Dataflow(deploy.module), ()).quantized
        executor = observer(deploy, statistics, calibration)
        found = equalize_activations(deploy, calibration, stored, executor=executor, only_outlying=method == "outlying")
        return EqualizedNetwork(model=found.model, statistics=found.statistics(dict(statistics)))
    return EqualizedNetwork(model=deploy, statistics=statistics)


def _weights(deploy: Model, statistics: Mapping[str, NormalStatistics]) -> EqualizedNetwork:
    found = equalize_weights(deploy, relu6="keep")
    scaled = {name: known.scaled(found.factors[name]) if name in found.factors else known for name, known in statistics.items()}
    absorbed = absorb_bias(found.model, scaled)
    shifted = {name: known.shifted(-absorbed.amounts[name]) if name in absorbed.amounts else known for name, known in scaled.items()}
    notes = () if found.factors else ("no weights are equalized: no layer is the only reader of another's output, through relu or nothing",)
    return EqualizedNetwork(model=absorbed.model, statistics=shifted, notes=notes)
