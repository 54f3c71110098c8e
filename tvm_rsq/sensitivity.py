"""Sensitivity: what quantizing one layer alone does to the network's output, once per tensor and once per channel.

    sensitivity(layer, scheme) = mean over samples of KL(FP32 output || output with this layer's weight and input quantized)

Everything up to the layer is computed once, in a trace that all layers share, and only what depends on the layer is computed again:
about half of the work of running the network twice per layer.
Measuring only: what to make of the numbers is decided in `choose_schemes`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
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
from tvm_rsq.uniform import fake_quantize_weight, weight_scale


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
    *,
    weight_bits: int = 8,
    bits_of_layer: Mapping[str, int] | None = None,
    scale_floors: Mapping[str, np.ndarray] | None = None,
    layers: Collection[str] | None = None,
    trace_bytes: int = 1_500_000_000,
    executor: Executor | None = None,
    progress: ProgressCallback = silent,
) -> tuple[LayerSensitivity, ...]:
    """Sensitivity of every layer (or of those in `layers`), in execution order.

    model          deploy form
    activations    tensor -> its quantization; a layer whose input is not among them reads it in float
    weight_bits    4, 6 or 8; bits_of_layer[layer] goes before it
    scale_floors   layer -> the smallest weight scale of each channel, as the plan will hold them; none by default
    trace_bytes    memory that the shared trace may take; samples are run in chunks that fit
    ConfigError: `layers` or `bits_of_layer` names something that is not a layer.
    """
    executor = executor or Executor(model)
    bits_of_layer = bits_of_layer or {}
    known = {layer.name for layer in executor.layers}
    if unknown := (set(layers or ()) | bits_of_layer.keys()) - known:
        raise ConfigError(f"the network has no layer {sorted(unknown)[:3]}, expected names such as {sorted(known)[:3]}")
    chosen = [layer for layer in executor.layers if layers is None or layer.name in layers]
    divergence = Divergence(executor)
    sums = {layer.name: np.zeros(2) for layer in chosen}

    size = max(1, trace_bytes // measure_values(executor, tensors(calibration.inputs, 0, 1)).total)
    total, done = len(chosen) * -(-len(calibration) // size), 0
    with torch.no_grad():
        for _start, inputs in chunks(calibration, size):
            trace = executor.trace(inputs)
            reference = divergence.prepare([trace[name] for name in executor.outputs])
            for layer in chosen:
                bits = bits_of_layer.get(layer.name, weight_bits)
                value = _fake_quantized(trace[layer.input], activations.get(layer.input))
                for i, axis in enumerate((None, layer.axis)):
                    weight = _fake_quantized_weight(model.params[layer.name], axis, bits, (scale_floors or {}).get(layer.name))
                    output = executor.compute(layer.binding, {layer.input: value, layer.name: weight})
                    outputs = executor.resume(trace, {layer.binding: output})
                    sums[layer.name][i] += float(divergence.of(reference, outputs).sum())
                done += 1
                progress(Progress(stage="sensitivity", done=done, total=total, detail=layer.name))
    return tuple(LayerSensitivity(name, *(float(v) / len(calibration) for v in found)) for name, found in sums.items())


def _fake_quantized(value: torch.Tensor, quant: TensorQuant | None) -> torch.Tensor:
    if quant is None:
        return value
    return torch.fake_quantize_per_tensor_affine(value, quant.scale, quant.zero_point, 0, 2**quant.bits - 1)


def _fake_quantized_weight(weight: np.ndarray, axis: int | None, bits: int, floor: np.ndarray | None) -> torch.Tensor:
    minimum = 0.0 if floor is None else floor if axis is not None else float(floor.max())
    return torch.from_numpy(fake_quantize_weight(weight, weight_scale(weight, axis, bits, minimum=minimum), axis, bits))
