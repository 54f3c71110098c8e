"""Mean and deviation of every channel of some tensors, over a calibration set."""

from __future__ import annotations

from collections.abc import Set
from typing import Any

import numpy as np
import torch

from tvm_rsq.calibration_set import CalibrationSet
from tvm_rsq.chunking import chunks, samples_within
from tvm_rsq.executor import Executor

_CHUNK_BYTES = 128 * 2**20

Moments = tuple[np.ndarray, np.ndarray]


def channel_moments(executor: Executor, calibration: CalibrationSet, names: Set[str]) -> dict[str, Moments]:
    """Tensor -> (mean, std) of every channel (the last axis), float64 (C,), over all samples and positions."""
    sums: dict[str, list[Any]] = {name: [0.0, 0.0, 0] for name in names}

    def observe(name: str, value: torch.Tensor) -> None:
        if name in sums:
            flat = value.reshape(-1, value.shape[-1]).to(torch.float64)
            sums[name][0] += flat.sum(0).numpy()
            sums[name][1] += flat.square().sum(0).numpy()
            sums[name][2] += len(flat)

    with torch.no_grad():
        for _start, inputs in chunks(calibration, samples_within(_CHUNK_BYTES, executor, calibration)):
            executor.run(inputs, observe=observe)
    moments = {}
    for name, (total, squares, count) in sums.items():
        mean = total / count
        moments[name] = mean, np.sqrt(np.maximum(squares / count - mean**2, 0.0))
    return moments
