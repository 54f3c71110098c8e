"""The controls: noise that knows nothing of the network, to measure what synthesis is worth.

gaussian  N(0, 1)        uniform  of the same mean and standard deviation, in [-sqrt(3), sqrt(3))
"""

from __future__ import annotations

import math

import torch

from tvm_rsq.calibration_set import CalibrationSet
from tvm_rsq.config import SynthesisConfig
from tvm_rsq.model import Model

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
