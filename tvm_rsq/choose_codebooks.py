"""Which layers get a codebook where it is allowed: those of few bits, unless they diverge clearly more with it than on a uniform grid.

    uniform where     KL_codebook - KL_uniform  >  KL_uniform / 2    and    > a hundredth of the sum of all layers' KL_uniform

each with this layer alone quantized, in nats, see `sensitivity`. A codebook nearly always has the smaller error of weights, two thirds at 4
bits; a few images tell less than that about a layer that costs little. (MobileNetV2 W4A8, all layers alike, one seed, KL on 500
photos: 0.37 with codebooks wherever the layer alone diverged less, rounded to nearest; 0.28 with one in every layer; 0.49 with none.)
Layers that will be rounded by squant are tried so: rounded to nearest, errors do not cancel, and others would be turned away.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from tvm_rsq.calibration_set import CalibrationSet
from tvm_rsq.errors import ConfigError
from tvm_rsq.executor import Executor
from tvm_rsq.layer_facts import Candidate, LayerFacts
from tvm_rsq.layer_override import CODEBOOK_BITS, LayerOverride
from tvm_rsq.layer_plans import fitted
from tvm_rsq.plan import TensorQuant
from tvm_rsq.progress import ProgressCallback, silent
from tvm_rsq.sensitivity import measure
from tvm_rsq.squant import squant_weight
from tvm_rsq.weight_grid import WeightGrid

_PART_OF_OWN, _PART_OF_ALL = 0.5, 0.01


def choose_codebooks(
    facts: Sequence[LayerFacts], said: Mapping[str, LayerOverride], tensors: Mapping[str, TensorQuant], calibration: CalibrationSet, *,
    executor: Executor, base: Mapping[str, Candidate], wherever: bool, squant: bool = False, progress: ProgressCallback = silent,
) -> dict[str, str]:  # fmt: skip
    """Layer -> why, a phrase for the report, of the layers that are to have a codebook, in execution order.

    said      the user's word on some layers, which is obeyed
    base      how each layer is computed otherwise
    wherever  whether the other layers are to have one where that is not clearly worse
    squant    whether weights will be rounded so, and not to nearest
    ConfigError: a codebook for a layer of more than 6 bits.
    """
    trials = {}
    for layer in facts:
        word = said.get(layer.name, LayerOverride()).grid
        if word == "codebook" and layer.bits not in CODEBOOK_BITS:
            raise ConfigError(f"layer {layer.name} is to have a codebook of {layer.bits} bits, expected 3, 4 or 6; say weight_bits=4 too")
        if word or not wherever or layer.in_float or layer.bits not in CODEBOOK_BITS or base[layer.name].accumulate16:
            continue
        ways = [fitted(layer, replace(base[layer.name], nonuniform=nonuniform), tensors)[:2] for nonuniform in (False, True)]
        trials[layer.name] = [partial(_rounded, layer, grid, squant) for _, grid in ways]
    found = measure(executor.model, calibration, tensors, trials, executor=executor, progress=progress) if trials else {}
    least = _PART_OF_ALL * sum(uniform for uniform, _ in found.values() if math.isfinite(uniform))
    why = {name: _why(*pair) for name, pair in found.items() if not _worse(*pair, least)}
    why |= {name: "codebook by override" for name, word in said.items() if word.grid == "codebook"}
    return {layer.name: why[layer.name] for layer in facts if layer.name in why}


def _worse(uniform: float, codebook: float, least: float) -> bool:
    """Whether the codebook's divergence is clearly the larger, or is no number."""
    return not codebook - uniform <= max(least, _PART_OF_OWN * uniform) if math.isfinite(uniform) else not math.isfinite(codebook)


def _why(uniform: float, codebook: float) -> str:
    """A phrase for the report."""
    return f"codebook: {codebook:.2g} nats, uniform {uniform:.2g}"


def _rounded(layer: LayerFacts, grid: WeightGrid, squant: bool) -> np.ndarray:
    """float32 of the weight's shape."""
    if squant:
        return grid.real(squant_weight(layer.weight, grid.scale, layer.axis, grid.bits, grid.books), layer.axis)
    return grid.real(grid.integers(layer.weight, layer.axis), layer.axis)
