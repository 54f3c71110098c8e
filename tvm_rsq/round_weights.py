"""Weights on the points of their grids, by the rounding that a recipe names: layer -> float32 weight, exactly scale * integer. Those of
layers in float that have a codebook are the nearest products of it, whatever the recipe.

nearest   rint(w / scale), what every layer gets that has nothing better
squant    see squant
feedback  see error_feedback; on inputs that carry the roundings of earlier layers
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from tvm_rsq.calibration_set import CalibrationSet
from tvm_rsq.error_feedback import round_with_feedback
from tvm_rsq.executor import Executor
from tvm_rsq.layer_moments import covariance, from_weight_rows, weight_rows
from tvm_rsq.layer_record import LayerPlan
from tvm_rsq.model import Model
from tvm_rsq.paired_run import LayerInputs, PairedRun
from tvm_rsq.plan import QuantPlan
from tvm_rsq.quantize_layers import code_float_layers, quantize_layers
from tvm_rsq.squant import squant_weight
from tvm_rsq.uniform import dequantize_weight


def nearest(model: Model, plan: QuantPlan) -> dict[str, np.ndarray]:
    """Of every layer that the plan quantizes, promises of accumulate16 kept, or leaves in float with a codebook."""
    layers, coded = quantize_layers(model, plan), code_float_layers(model, plan)
    found = {name: dequantize_weight(of.weight, of.scale, of.axis if of.scale.size > 1 else None) for name, of in layers.items()}
    return found | {name: of.weight for name, of in coded.items()}


def squant(model: Model, plan: QuantPlan) -> dict[str, np.ndarray]:
    """As `nearest`; layers with accumulate16 are rounded to nearest."""
    found = nearest(model, plan)
    for layer in free_layers(plan).values():
        weight = model.params[layer.name]
        axis = weight.ndim - 1 if layer.op == "dense" else 0
        found[layer.name] = layer.grid.real(squant_weight(weight, layer.grid.scale, axis, layer.weight_bits, layer.grid.books), axis)
    return found


def feedback(model: Model, plan: QuantPlan, calibration: CalibrationSet, *, executor: Executor | None = None) -> dict[str, np.ndarray]:
    """As `nearest`; layers with accumulate16, and grouped ones that are not depthwise, are rounded to nearest."""
    executor, layers = executor or Executor(model), free_layers(plan)
    found = nearest(model, plan)

    def before(read: LayerInputs) -> torch.Tensor | None:
        layer = layers.get(read.layer.name)
        if layer is None:
            return None
        kernel = (read.weight.shape[1], read.weight.shape[2]) if read.weight.ndim == 4 else (1, 1)
        rows = weight_rows(read.layer, read.weight).to(torch.float64)
        scale = torch.tensor(layer.weight_scale, dtype=torch.float64).expand(len(rows))
        moments = covariance(read.layer, read.step, read.x_quantized, kernel)
        q = round_with_feedback(rows, moments, scale, _levels(layer, len(rows)))
        return from_weight_rows(read.layer, (q * scale[:, None]).to(torch.float32), read.weight)

    run = PairedRun(executor=executor, tensors=plan.tensors, params={name: torch.from_numpy(value) for name, value in found.items()})
    made = run.walk([torch.from_numpy(array) for array in calibration.inputs], before=before)
    return {name: made[name].numpy() for name in found}


def _levels(layer: LayerPlan, outputs: int) -> int | torch.Tensor:
    if not layer.codebook:
        return 2 ** (layer.weight_bits - 1) - 1
    return torch.from_numpy(layer.grid.levels(outputs)).to(torch.float64)


def free_layers(plan: QuantPlan) -> Mapping[str, LayerPlan]:
    """Layers whose weights may be any points of their grids."""
    return {layer.name: layer for layer in plan.layers if layer.scheme != "float" and not layer.accumulate16}
