"""Data that nothing is optimised for: two controls that know nothing of the network, and what effort "instant" is made of.

gaussian    N(0, 1)        uniform  of the same mean and standard deviation, in [-sqrt(3), sqrt(3))
statistics  dead leaves on the scale that the network takes (see synthesis_input); what makes them calibration data is that every layer's
            values are set right where they are measured, see standardized_executor
"""

from __future__ import annotations

import math
from dataclasses import fields

import numpy as np
import torch

from tvm_rsq.calibration_set import CalibrationSet
from tvm_rsq.config import SynthesisConfig
from tvm_rsq.dead_leaves import dead_leaves
from tvm_rsq.executor import Executor
from tvm_rsq.model import Model
from tvm_rsq.optimised_pixels import within_reach
from tvm_rsq.synthesis_input import InputScale, find_input_scale
from tvm_rsq.synthesis_loss import StatisticsLoss

_IMAGES = 16
_UNUSED = ("batch", "steps", "learning_rate", "optimizer", "swing", "low_pass", "time_limit_s")


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


def leaves(model: Model, config: SynthesisConfig, seed: int) -> CalibrationSet:
    """`config.images` (16) of source "statistics", (images, *input shape without batch) float32 for every input."""
    executor = Executor(model)
    loss = StatisticsLoss(executor, class_weight=config.class_weight, input_weight=config.input_weight)
    scale = find_input_scale(loss, bool(executor.batch_norms), model.inputs, torch.Generator().manual_seed(seed))
    notes = [f"input scale {scale.offset:g} + {scale.gain:g} * N(0, 1): {scale.reason}"]
    if ignored := [field.name for field in fields(config) if field.name in _UNUSED and getattr(config, field.name) != field.default]:
        notes.append(f'not looked at, for source "statistics" optimises nothing: {", ".join(ignored)}')
    if not executor.batch_norms:
        notes.append(
            "warning: no batch norm, so that nothing sets the values right and the network may answer otherwise; keep them when exporting "
            "(torch.onnx.export with training=TrainingMode.PRESERVE, do_constant_folding=False), or give real inputs, or use effort best"
        )
    return CalibrationSet(
        inputs=tuple(scaled_leaves(model, scale, config.images or _IMAGES, seed)), source="statistics", seed=seed,
        network_hash=model.network_hash, notes=tuple(notes),
    )  # fmt: skip


def scaled_leaves(model: Model, scale: InputScale, count: int, seed: int) -> list[np.ndarray]:
    """`count` dead leaves as the network takes them, (count, *input shape without batch) float32 for every input."""
    images = [within_reach(torch.from_numpy(array)) for array in dead_leaves(model.inputs, count, np.random.default_rng(seed))]
    return [value.contiguous().numpy() for value in scale.apply(images)]
