"""Sensitivity: what quantizing one layer alone does to the network's output, once for each way that is tried.

    sensitivity(layer, way) = mean over samples of KL(FP32 output || output with this layer's weight and input quantized)

Everything that does not depend on the layer is computed once for all of its trials: about half of the work of running the network again
for each of them.
Measuring only: what to make of the numbers is decided in `choose_schemes` and `choose_candidates`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from tvm_rsq.calibration_set import CalibrationSet
from tvm_rsq.chunking import CHUNK_BYTES, chunks, samples_within
from tvm_rsq.divergence import Divergence
from tvm_rsq.errors import ConfigError
from tvm_rsq.executor import Executor
from tvm_rsq.model import Model
from tvm_rsq.progress import Progress, ProgressCallback, silent
from tvm_rsq.shared_prefix import SharedPrefix
from tvm_rsq.tensor_quant import TensorQuant

_FEWEST, _MOST_MACS = 8, 15e9  # samples, and multiply-accumulates of one pass of all of them


@dataclass(frozen=True, slots=True)
class LayerSensitivity:
    """Divergence of the network's output, in nats, when this layer alone is quantized.   0 <= both, infinity allowed

    error_ratio  squared error of the per-tensor weight over that of the per-channel one
    """

    layer: str
    per_tensor: float
    per_channel: float
    error_ratio: float = 1.0


def affordable(calibration: CalibrationSet, macs: int) -> CalibrationSet:
    """As many samples, evenly spaced, as a network of so many multiply-accumulates is judged on at effort "instant"; at least 8.

    One layer after the other is tried on all of them, which takes ResNet-18 ten seconds of two cores for 16 samples.
    """
    return calibration.spaced(max(_FEWEST, int(_MOST_MACS // max(macs, 1))))


def measure(
    model: Model,
    calibration: CalibrationSet,
    activations: Mapping[str, TensorQuant],
    trials: Mapping[str, Sequence[Callable[[], np.ndarray]]],
    *,
    chunk_bytes: int = CHUNK_BYTES,
    executor: Executor | None = None,
    progress: ProgressCallback = silent,
) -> dict[str, tuple[float, ...]]:
    """Layer -> the sensitivity of each of its trials, in nats; layers in execution order.

    model          deploy form
    activations    tensor -> its quantization; a layer whose input is not among them reads it in float
    trials         layer -> makers of the weights to try in the place of its own: float32 of the same shape
    chunk_bytes    see chunking.samples_within; weights are made anew for each chunk
    ConfigError: `trials` names something that is not a layer.
    """
    executor = executor or Executor(model)
    known = {layer.name for layer in executor.layers}
    if unknown := trials.keys() - known:
        raise ConfigError(f"the network has no layer {sorted(unknown)[:3]}, expected names such as {sorted(known)[:3]}")
    chosen = [layer for layer in executor.layers if layer.name in trials]
    divergence = Divergence(executor)
    sums = {layer.name: np.zeros(len(trials[layer.name])) for layer in chosen}

    batches = list(chunks(calibration, samples_within(chunk_bytes, executor, calibration)))
    total, done = len(chosen) * len(batches), 0
    with torch.no_grad():
        for _start, inputs in batches:
            prefix = SharedPrefix(executor, inputs, chosen)
            reference = divergence.prepare(prefix.reference)
            for layer in chosen:
                value = fake_quantized(prefix.reach(layer), activations.get(layer.input))
                for i, make in enumerate(trials[layer.name]):
                    outputs = prefix.rest(layer, value, torch.from_numpy(make()))
                    sums[layer.name][i] += float(divergence.of(reference, outputs).sum())
                prefix.leave(layer)
                done += 1
                progress(Progress(stage="sensitivity", done=done, total=total, detail=layer.name))
    return {name: tuple(float(value) / len(calibration) for value in found) for name, found in sums.items()}


class NetworkDivergence:
    """Divergence of a network with many tensors and weights quantized at once. What FP32 gives is computed once, for all such networks."""

    def __init__(self, calibration: CalibrationSet, *, executor: Executor, chunk_bytes: int = CHUNK_BYTES) -> None:
        self._calibration, self._executor, self._divergence = calibration, executor, Divergence(executor)
        self._size = samples_within(chunk_bytes, executor, calibration)
        with torch.no_grad():
            self._references = [self._divergence.prepare(executor.run(inputs)) for _start, inputs in chunks(calibration, self._size)]

    def samples(self, activations: Mapping[str, TensorQuant], weights: Mapping[str, np.ndarray]) -> np.ndarray:
        """KL in nats of every sample, float64 (N,).   weights: layer -> float32 weight in the place of its own"""
        given = {name: torch.from_numpy(weight) for name, weight in weights.items()}
        found = []
        with torch.no_grad():
            for reference, (_start, inputs) in zip(self._references, chunks(self._calibration, self._size), strict=True):
                outputs = self._executor.run(inputs, params=given, observe=lambda name, value: fake_quantized(value, activations.get(name)))
                found.append(np.asarray(self._divergence.of(reference, outputs), np.float64).reshape(-1))
        return np.concatenate(found)


def fake_quantized(value: torch.Tensor, quant: TensorQuant | None) -> torch.Tensor:
    """What is left of a float tensor after being stored as `quant`; the tensor itself without one."""
    if quant is None:
        return value
    return torch.fake_quantize_per_tensor_affine(value, quant.scale, quant.zero_point, 0, 2**quant.bits - 1)
