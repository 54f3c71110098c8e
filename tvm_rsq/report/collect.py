"""Collect what a report shows of a quantized network; measurements are added to it later."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from typing import Any

import numpy as np
import tvm

from tvm_rsq.calibration_set import CalibrationSet
from tvm_rsq.passes.lower_islands import KernelCall
from tvm_rsq.plan import OF_THE_FILE
from tvm_rsq.quantized_model import QuantizedModel
from tvm_rsq.report import histogram
from tvm_rsq.report.data import ReportData

_PICTURES = 16
_LARGEST_PICTURE = 128  # pixels a side in the report; larger ones are thinned out


def collect_report(quantized: QuantizedModel, target: str, calls: Sequence[KernelCall], library_bytes: int) -> ReportData:
    """The report of a build, without times or fidelity."""
    plan = quantized.plan
    weights = {layer.name: quantized.model.params[layer.name] for layer in plan.layers}
    return ReportData(
        network=quantized.model.name,
        target=target,
        plan=plan,
        **(_calibration(quantized.calibration) if plan.calibrated else {}),
        histograms={
            layer.name: histogram.build(weights[layer.name], layer.weight_scale, layer.weight_bits, book=(*layer.codebook, ())[0])
            for layer in plan.layers
        },
        weight_bytes_before=sum(weight.nbytes for weight in weights.values()),
        weight_bytes_after=sum(layer.weight_bytes for layer in plan.layers),
        facts={
            **_asked(quantized),
            "TVM": tvm.__version__,
            "Python": platform.python_version(),
            "compiled on": platform.machine(),
            "library": f"{library_bytes / 1e6:.1f} MB, {len(calls)} kernel calls",
        },
        notes=quantized.notes,
    )


def _calibration(data: CalibrationSet) -> dict[str, Any]:
    return {"images": pictures(data.inputs[0]), "image_source": data.source, "loss_curve": data.loss_curve}


def _asked(quantized: QuantizedModel) -> dict[str, str]:
    """What was to be decided, and how and on what; of a network that brought its own quantization as far as it left something open."""
    config, data, found = quantized.config, quantized.calibration, {"scheme": OF_THE_FILE}
    if quantized.source.quantization is None:
        found = {"scheme": config.scheme, "budget": f"{100 * config.budget:g} % more divergence than per-channel"}
    if quantized.plan.calibrated:
        found |= {"seed": str(config.seed), "activation ranges": config.range_method, "calibration": f"{len(data)} inputs, {data.source}"}
    return found


def pictures(inputs: np.ndarray) -> np.ndarray:
    """(n, H, W, 3 or 1) uint8 of the first images in (N, C, H, W), each stretched to its own range; empty for other shapes."""
    if inputs.ndim != 4 or inputs.shape[1] not in (1, 3):
        return np.zeros((0, 1, 1, 3), np.uint8)
    step = -(-max(inputs.shape[2:]) // _LARGEST_PICTURE)
    images = inputs[:_PICTURES, :, ::step, ::step].astype(np.float32)
    flat = images.reshape(len(images), -1)
    # Percentiles: a few outlying pixels would otherwise leave the rest grey.
    low, high = (np.percentile(flat, q, axis=1).reshape(-1, 1, 1, 1) for q in (1, 99))
    scaled = np.clip((images - low) / np.maximum(high - low, 1e-9), 0, 1)
    return np.ascontiguousarray((scaled * 255).astype(np.uint8).transpose(0, 2, 3, 1))
