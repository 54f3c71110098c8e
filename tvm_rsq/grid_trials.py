"""What each grid that a layer's weights may be stored on costs: their error, bytes, and the divergence of the network's output.

    kl = mean over samples of KL(FP32 output || output with this layer alone on that grid)        nats, see `sensitivity`

Layers that will be rounded by squant are tried so: rounded to nearest, errors do not cancel, and others would be turned away.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from tvm_rsq.calibration_set import CalibrationSet
from tvm_rsq.executor import Executor
from tvm_rsq.layer_facts import Candidate, LayerFacts
from tvm_rsq.layer_plans import fitted
from tvm_rsq.layer_record import GridTrial
from tvm_rsq.progress import Progress, ProgressCallback, silent
from tvm_rsq.sensitivity import measure
from tvm_rsq.squant import squant_weight
from tvm_rsq.tensor_quant import TensorQuant
from tvm_rsq.uniform import nmse
from tvm_rsq.weight_grid import stored_bytes


@dataclass(frozen=True, slots=True)
class Way:
    """A number of bits, uniform or with a codebook."""

    bits: int
    codebook: bool = False


@dataclass(frozen=True, slots=True)
class Tried:
    """A trial, and the weights that it was made with: float32 of the layer's shape."""

    trial: GridTrial
    weight: Callable[[], np.ndarray]


def try_grids(
    facts: Sequence[LayerFacts], ways: Mapping[str, Sequence[Way]], base: Mapping[str, Candidate], tensors: Mapping[str, TensorQuant],
    calibration: CalibrationSet, *, executor: Executor, squant: bool, progress: ProgressCallback = silent,
) -> dict[str, tuple[Tried, ...]]:  # fmt: skip
    """Layer -> a trial for each of its ways, in their order; without codebooks where the layer's sums might overflow.

    ways  layer -> what to try; layers that are not there are left out, and so are those in float
    base  how each layer is computed otherwise
    """
    wanted = [layer for layer in facts if ways.get(layer.name) and not layer.in_float]
    made: dict[str, list[Tried]] = {}
    for done, layer in enumerate(wanted, start=1):
        possible = [way for way in ways[layer.name] if layer.fits_codebook or not way.codebook] or [Way(ways[layer.name][-1].bits)]
        made[layer.name] = [_tried(replace(layer, bits=way.bits), way, base[layer.name], tensors, squant) for way in possible]
        progress(Progress(stage="weight grids", done=done, total=len(wanted), detail=layer.name))
    trials = {name: [each.weight for each in found] for name, found in made.items()}
    measured = measure(executor.model, calibration, tensors, trials, executor=executor, progress=progress) if trials else {}
    return {
        name: tuple(replace(each, trial=replace(each.trial, kl=kl)) for each, kl in zip(found, measured[name], strict=True))
        for name, found in made.items()
    }  # fmt: skip


def _tried(layer: LayerFacts, way: Way, base: Candidate, tensors: Mapping[str, TensorQuant], squant: bool) -> Tried:
    """Without its divergence."""
    candidate, grid, _ = fitted(layer, replace(base, nonuniform=way.codebook), tensors)
    near = layer.integers(candidate, grid)
    error = nmse(layer.weight, layer.real(near, grid)) if np.any(layer.weight) else 0.0
    size = stored_bytes(layer.weight.size, way.bits, 0 if grid.books is None else len(grid.books))
    if squant and not candidate.accumulate16:
        near = squant_weight(layer.weight, grid.scale, layer.axis, grid.bits, grid.books)
    trial = GridTrial(bits=way.bits, codebook=way.codebook, weight_nmse=error, weight_bytes=size, kl=math.nan)
    return Tried(trial, partial(layer.real, near, grid))
