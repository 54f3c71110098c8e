"""A network whose layers' outputs have the statistics of training on whatever is put into it, noise too.

    y' = mean_t + (y - mean_y) * std_t / std_y         at every layer's output with its bias, channel by channel

mean_t, std_t are what the layer's batch norm had in training, mean_y, std_y what the data make of it here, so that each layer reads inputs
of the right size however strange the data are. (Batch norms that normalise by the batch do the same; Li et al., "AdaBN", ICLR workshop
2017, adapt networks to other domains so.) What is measured with it: ranges of tensors, extremes of channels, the harm of a rounding.
Weights can be put in the place of the layers' own as in any executor.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from tvm_rsq.calibration_set import CalibrationSet
from tvm_rsq.executor import Executor, Step
from tvm_rsq.layer_links import biased_layers
from tvm_rsq.layer_statistics import NormalStatistics, statistics_of
from tvm_rsq.model import Model

_Affine = tuple[torch.Tensor, torch.Tensor]


def observer(model: Model, statistics: Mapping[str, NormalStatistics], calibration: CalibrationSet) -> Executor:
    """What `calibration` is run through where something is measured: `standardized` where its source is "statistics", else the network."""
    executor = Executor(model)
    return standardized(executor, statistics, calibration) if calibration.source == "statistics" else executor


def standardized(executor: Executor, statistics: Mapping[str, NormalStatistics], calibration: CalibrationSet) -> Executor:
    """An executor of the same network that computes y' in the place of y for the layers in `statistics`, by what `calibration` makes of y.

    executor    of a deploy-form network; comes back as it is when statistics is empty
    statistics  layer -> what its output with bias had in training
    """
    outputs = {layer.output: name for name, layer in biased_layers(executor.model).items() if name in statistics}
    if not outputs:
        return executor
    found: dict[str, _Affine] = {}

    def observe(name: str, value: torch.Tensor) -> torch.Tensor | None:
        if name not in outputs:
            return None
        trained = statistics_of(statistics, outputs[name], value.shape[-1])
        found[name] = _affine(value, trained)
        return _applied(value, found[name])

    with torch.no_grad():
        executor.run([torch.from_numpy(array) for array in calibration.inputs], observe=observe)
    changed = copy.copy(executor)
    steps = {step.name: _with(step, found[step.name]) if step.name in found else step for step in executor.steps}
    changed.steps = tuple(steps.values())
    changed.schedule = tuple((steps[step.name], dead) for step, dead in executor.schedule)
    return changed


def _affine(value: torch.Tensor, trained: NormalStatistics) -> _Affine:
    """float32 (C,) factor and offset.   value (..., C). A channel that does not vary becomes its mean in training."""
    flat = value.reshape(-1, value.shape[-1]).to(torch.float64).numpy()
    mean, std = flat.mean(0), flat.std(0)
    factor = np.divide(trained.std, std, out=np.zeros_like(std), where=std > 0)
    return torch.from_numpy(factor).to(value.dtype), torch.from_numpy(trained.mean - factor * mean).to(value.dtype)


def _applied(value: torch.Tensor, affine: _Affine) -> torch.Tensor:
    return value * affine[0] + affine[1]


def _with(step: Step, affine: _Affine) -> Step:
    own: Callable[[Sequence[Any]], Any] = step.evaluate
    # Another op: it is no longer the sum or convolution that others might compute by its name in a way of their own.
    return replace(step, op=f"standardized {step.op}", evaluate=lambda read: _applied(own(read), affine))
