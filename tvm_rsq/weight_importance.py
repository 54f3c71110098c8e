"""What the squared error of each weight counts in its layer's output: the variance of what it is multiplied with.

    E[(sum_k e_k x_k - its mean)^2]  ~  sum_k e_k^2 Var(x_k)        but for correlations; the mean goes into the bias

Of an input channel that hardly moves, a thousandth of the average counts: the data is not all that the network will see.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tvm_rsq.calibration_set import CalibrationSet
from tvm_rsq.channel_moments import channel_moments
from tvm_rsq.executor import Executor
from tvm_rsq.layer_facts import LayerFacts

_LEAST = 1e-3


def weight_importance(executor: Executor, calibration: CalibrationSet, layers: Sequence[LayerFacts]) -> dict[str, np.ndarray]:
    """Layer -> float64 (run,), or (O, run) where output channels read different inputs; as `as_rows` orders its weight."""
    found = channel_moments(executor, calibration, {layer.input for layer in layers})
    return {layer.name: _of_rows(np.square(found[layer.input][1]), layer) for layer in layers}


def _of_rows(variance: np.ndarray, layer: LayerFacts) -> np.ndarray:
    """variance: float64 (C,) of the layer's input"""
    mean = float(variance.mean())
    held = np.maximum(variance, _LEAST * mean) if mean > 0 else np.ones_like(variance)
    outputs = layer.weight.shape[layer.axis]
    taps = layer.weight.size // outputs // layer.inner
    groups = held.reshape(-1, layer.inner)
    if len(groups) == 1:
        return np.tile(groups[0], taps)
    return np.repeat(np.tile(groups, taps), outputs // len(groups), axis=0)
