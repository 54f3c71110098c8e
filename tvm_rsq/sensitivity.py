"""Sensitivity: what quantizing one layer alone does to the network's output, once for each way that is tried.

    sensitivity(layer, way) = mean over samples of KL(FP32 output || output with this layer's weight and input quantized)

Everything up to the layer is computed once, in a trace that all layers share, and only what depends on the layer is computed again:
about half of the work of running the network again for every trial.
Measuring only: what to make of the numbers is decided in `choose_schemes` and `choose_candidates`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from tvm_rsq.calibration_set import CalibrationSet
from tvm_rsq.chunking import chunks, measure_values, tensors
from tvm_rsq.divergence import Divergence
from tvm_rsq.errors import ConfigError
from tvm_rsq.executor import Executor
from tvm_rsq.model import Model
from tvm_rsq.plan import TensorQuant
from tvm_rsq.progress import Progress, ProgressCallback, silent


@dataclass(frozen=True, slots=True)
class LayerSensitivity:
    """Divergence of the network's output, in nats, when this layer alone is quantized.   0 <= both, infinity allowed"""

    layer: str
    per_tensor: float
    per_channel: float


def measure(
    model: Model,
    calibration: CalibrationSet,
    activations: Mapping[str, TensorQuant],
    trials: Mapping[str, Sequence[Callable[[], np.ndarray]]],
    *,
    trace_bytes: int = 1_500_000_000,
    executor: Executor | None = None,
    progress: ProgressCallback = silent,
) -> dict[str, tuple[float, ...]]:
    """Layer -> the sensitivity of each of its trials, in nats; layers in execution order.

    model          deploy form
    activations    tensor -> its quantization; a layer whose input is not among them reads it in float
    trials         layer -> makers of the weights to try in the place of its own: float32 of the same shape
    trace_bytes    memory that the shared trace may take; samples are run in chunks that fit, and weights made anew for each
    ConfigError: `trials` names something that is not a layer.
    """
    executor = executor or Executor(model)
    known = {layer.name for layer in executor.layers}
    if unknown := trials.keys() - known:
        raise ConfigError(f"the network has no layer {sorted(unknown)[:3]}, expected names such as {sorted(known)[:3]}")
    chosen = [layer for layer in executor.layers if layer.name in trials]
    divergence = Divergence(executor)
    sums = {layer.name: np.zeros(len(trials[layer.name])) for layer in chosen}

    size = max(1, trace_bytes // measure_values(executor, tensors(calibration.inputs, 0, 1)).total)
    total, done = len(chosen) * -(-len(calibration) // size), 0
    with torch.no_grad():
        for _start, inputs in chunks(calibration, size):
            trace = executor.trace(inputs)
            reference = divergence.prepare([trace[name] for name in executor.outputs])
            for layer in chosen:
                value = fake_quantized(trace[layer.input], activations.get(layer.input))
                for i, make in enumerate(trials[layer.name]):
                    output = executor.compute(layer.binding, {layer.input: value, layer.name: torch.from_numpy(make())})
                    outputs = executor.resume(trace, {layer.binding: output})
                    sums[layer.name][i] += float(divergence.of(reference, outputs).sum())
                done += 1
                progress(Progress(stage="sensitivity", done=done, total=total, detail=layer.name))
    return {name: tuple(float(value) / len(calibration) for value in found) for name, found in sums.items()}


def network_divergence(
    calibration: CalibrationSet,
    activations: Mapping[str, TensorQuant],
    weights: Mapping[str, np.ndarray],
    *,
    executor: Executor,
    chunk_bytes: int = 500_000_000,
) -> float:
    """The mean of `sample_divergences`."""
    return float(sample_divergences(calibration, activations, weights, executor=executor, chunk_bytes=chunk_bytes).mean())


def sample_divergences(
    calibration: CalibrationSet,
    activations: Mapping[str, TensorQuant],
    weights: Mapping[str, np.ndarray],
    *,
    executor: Executor,
    chunk_bytes: int = 500_000_000,
) -> np.ndarray:
    """KL in nats of every sample, float64 (N,), when all of these tensors and weights together are quantized.

    weights  layer -> float32 weight in the place of its own
    """
    divergence = Divergence(executor)
    given = {name: torch.from_numpy(weight) for name, weight in weights.items()}
    size = max(1, chunk_bytes // measure_values(executor, tensors(calibration.inputs, 0, 1)).largest // 8)
    found = []
    with torch.no_grad():
        for _start, inputs in chunks(calibration, size):
            reference = divergence.prepare(executor.run(inputs))
            outputs = executor.run(inputs, params=given, observe=lambda name, value: fake_quantized(value, activations.get(name)))
            found.append(np.asarray(divergence.of(reference, outputs), np.float64).reshape(-1))
    return np.concatenate(found)


def fake_quantized(value: torch.Tensor, quant: TensorQuant | None) -> torch.Tensor:
    """What is left of a float tensor after being stored as `quant`; the tensor itself without one."""
    if quant is None:
        return value
    return torch.fake_quantize_per_tensor_affine(value, quant.scale, quant.zero_point, 0, 2**quant.bits - 1)
