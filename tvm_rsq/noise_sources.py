"""Data that nothing is optimised for: two controls that know nothing of the network, and what effort "instant" is made of.

gaussian    N(0, 1)        uniform  of the same mean and standard deviation, in [-sqrt(3), sqrt(3))
statistics  natural noise on the scale that the network takes (see synthesis_input); what makes it calibration data is that every layer's
            values are set right where they are measured, see standardized_executor
"""

from __future__ import annotations

import math

import torch

from tvm_rsq.calibration_set import CalibrationSet
from tvm_rsq.config import SynthesisConfig
from tvm_rsq.executor import Executor
from tvm_rsq.model import Model
from tvm_rsq.natural_noise import natural_noise
from tvm_rsq.optimised_pixels import within_reach
from tvm_rsq.synthesis_input import find_input_scale
from tvm_rsq.synthesis_loss import StatisticsLoss

_IMAGES = 16


def noise(model: Model, config: SynthesisConfig, seed: int) -> CalibrationSet:
    """`config.images` (16) of config.source "gaussian" or "uniform", (images, *input shape without batch) float32 for every input."""
    generator = torch.Generator().manual_seed(seed)
    arrays = []
    for spec in model.inputs:
        shape = (config.images or _IMAGES, *spec.shape[1:])
        uniform = config.source == "uniform"
        values = (torch.rand(shape, generator=generator) * 2 - 1) * math.sqrt(3) if uniform else torch.randn(shape, generator=generator)
        arrays.append(values.numpy())
    return CalibrationSet(inputs=tuple(arrays), source=config.source, seed=seed, network_hash=model.network_hash)


def natural(model: Model, config: SynthesisConfig, seed: int) -> CalibrationSet:
    """`config.images` (16) of source "statistics", (images, *input shape without batch) float32 for every input."""
    generator = torch.Generator().manual_seed(seed)
    executor = Executor(model)
    loss = StatisticsLoss(executor, class_weight=config.class_weight, input_weight=config.input_weight)
    scale = find_input_scale(loss, bool(executor.batch_norms), model.inputs, generator)
    images = [within_reach(value) for value in natural_noise(model.inputs, config.images or _IMAGES, generator)]
    notes = [f"input scale {scale.offset:g} + {scale.gain:g} * N(0, 1): {scale.reason}"]
    if not executor.batch_norms:
        notes.append("no batch norm: nothing sets the noise right; keep batch norms when exporting, or use effort best, or real inputs")
    return CalibrationSet(
        inputs=tuple(value.contiguous().numpy() for value in scale.apply(images)), source="statistics", seed=seed,
        network_hash=model.network_hash, notes=tuple(notes),
    )  # fmt: skip
