"""Activation ranges: Model (deploy form) + CalibrationSet -> the interval that each tensor has to represent.

min_max     the smallest and the largest value seen; other methods narrow it by a histogram of 8192 bins, see range_methods

Synthetic images reach less far than real ones in the last features: the pooled features of MobileNetV2 end at 3.3 where photos
reach 5.1 (the classes of noise-born images are less certain). Hence the margin: ranges of the tensors behind the
last hidden layer are stretched, though never past what their operators permit (relu6 ends at 6 for any image).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import torch

from tvm_rsq.calibration_set import CalibrationSet
from tvm_rsq.chunking import chunks, largest_value, tensors
from tvm_rsq.config import RangeMethod
from tvm_rsq.errors import CalibrationError
from tvm_rsq.executor import Executor
from tvm_rsq.model import Model
from tvm_rsq.progress import Progress, ProgressCallback, silent
from tvm_rsq.range_methods import NARROW
from tvm_rsq.tail import tail_bounds
from tvm_rsq.tensor_quant import TensorQuant
from tvm_rsq.uniform import activation_quant

SYNTHETIC_MARGIN = 1.5
_BINS = 8192
_CHUNK_BYTES = 128 * 2**20  # of the largest tensor
_PIECE = 2**23  # histc counts in float32, which is exact up to 2^24


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivationRanges:
    """Range of every tensor that was asked for, as seen (before zero is included).   low <= high, both finite

    ranges  tensor name -> (low, high)
    method  as QuantConfig.range_method
    margin  by which the last features' ranges were stretched; 1.0 is not at all
    """

    ranges: Mapping[str, tuple[float, float]]
    method: RangeMethod
    margin: float = 1.0

    def quantize(self, bits: int, overrides: Mapping[str, int] | None = None) -> dict[str, TensorQuant]:
        """Quantization of every tensor at `bits`, or at overrides[name] bits."""
        overrides = overrides or {}
        return {name: activation_quant(low, high, overrides.get(name, bits)) for name, (low, high) in self.ranges.items()}


def calibrate(
    model: Model,
    calibration: CalibrationSet,
    names: Collection[str] | None = None,
    *,
    method: RangeMethod = "min_max",
    margin: float | None = None,
    bits: int = 8,
    executor: Executor | None = None,
    progress: ProgressCallback = silent,
) -> ActivationRanges:
    """Run the calibration set through the network and note the ranges of the tensors in `names` (None: every tensor).

    margin    factor on the range of the last features; None: 1.5 for synthetic data, 1 for real data
    method    "sigma" sees what "min_max" does: `sigma_ranges` is for afterwards
    bits      of the grid that methods "mse" and "kl" are to fit
    executor  one of this model, if there is one already
    The values of one chunk of samples live at a time; equal inputs give equal ranges.
    CalibrationError: inputs do not fit the network, a value is NaN or infinite (tensor named), or a name is not a tensor of the network.
    """
    executor = executor or Executor(model)
    _check_inputs(model, calibration)
    wanted = None if names is None else set(names)
    size = max(1, _CHUNK_BYTES // largest_value(executor, tensors(calibration.inputs, 0, 1)))
    narrow = NARROW.get(method)  # None: all that was seen
    passes = 1 if narrow is None else 2
    total = len(calibration) * passes

    extremes: dict[str, tuple[float, float]] = {}

    def note_extremes(name: str, value: torch.Tensor) -> None:
        if (wanted is None or name in wanted) and value.is_floating_point():
            low, high = (float(bound) for bound in torch.aminmax(value))
            if not (math.isfinite(low) and math.isfinite(high)):
                raise CalibrationError(
                    f"tensor {name} takes NaN or infinite values on the calibration inputs; check the network and the inputs' scale"
                )
            before = extremes.get(name, (low, high))
            extremes[name] = (min(before[0], low), max(before[1], high))

    with torch.no_grad():
        for start, inputs in chunks(calibration, size):
            executor.run(inputs, observe=note_extremes)
            progress(Progress(stage="calibration", done=min(start + size, len(calibration)), total=total))
        if missing := (wanted or set()) - extremes.keys():
            raise CalibrationError(f"the network has no tensor {sorted(missing)[:3]}, expected names of its variables")
        if narrow is not None:
            histograms = {name: np.zeros(_BINS, np.float64) for name, (low, high) in extremes.items() if low < high}

            def count(name: str, value: torch.Tensor) -> None:
                if name in histograms:
                    low, high = extremes[name]
                    for piece in value.flatten().split(_PIECE):
                        histograms[name] += torch.histc(piece, _BINS, low, high).numpy()

            for start, inputs in chunks(calibration, size):
                executor.run(inputs, observe=count)
                progress(Progress(stage="calibration", done=len(calibration) + min(start + size, len(calibration)), total=total))
            extremes.update({name: narrow(counts, *extremes[name], bits) for name, counts in histograms.items()})

    margin = (1.0 if calibration.source == "real" else SYNTHETIC_MARGIN) if margin is None else margin
    if margin < 1:
        raise CalibrationError(f"margin is {margin}, expected a factor of at least 1")
    for name, (floor, ceiling) in tail_bounds(executor).items():
        if name in extremes:
            low, high = extremes[name]
            # A bound may stop the stretching; it never narrows what was seen.
            low, high = min(low, max(low * margin if low < 0 else low, floor)), max(high, min(high * margin if high > 0 else high, ceiling))
            extremes[name] = (low, high)
    return ActivationRanges(ranges=extremes, method=method, margin=margin)


def _check_inputs(model: Model, calibration: CalibrationSet) -> None:
    expected = [("N", *spec.shape[1:]) for spec in model.inputs]
    got = [("N", *array.shape[1:]) for array in calibration.inputs]
    if got != expected:
        raise CalibrationError(f"calibration inputs have shapes {got}, expected {expected}; make or load data for this network")
