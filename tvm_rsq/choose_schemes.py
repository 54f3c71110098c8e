"""Choosing per-tensor or per-channel for every layer, from measured sensitivities.

The seed's rule is "per tensor where KL_PT - KL_PC is within a threshold". Here the threshold is in the user's terms: how much more the
whole network may diverge than it does all per-channel, as a fraction of that (`allowance` makes nats of it). A fraction means the same for
every network and every kind of data: synthetic images of certain classes have KLs a hundred times below those of photos.

    excess = max(0,  KL_PT - KL_PC,  (e_PT / e_PC - 1) KL_PC)        e: squared error of the layer's weight

A KL is quadratic in small errors, so e_PT / e_PC times KL_PC is what per-tensor is expected to cost (less where the layer's input, whose
error is in KL_PC too, is coarse: hybrid keeps to the safe side). What a few images measure scatters around that by more than a budget of
5 %: by measured differences alone MobileNetV2 diverged by 16 % more on photos than all per-channel (by 50 % where it was measured without
images); now, of a budget of 2 %, by 4 % (and 2 %), three seeds together.

Layers are taken in ascending order of their excess, and become per-tensor while the sum of the excesses stays within the budget; the
threshold is the excess of the last one that fits. So a larger budget never turns a per-tensor layer into a per-channel one.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from tvm_rsq.config import Scheme
from tvm_rsq.errors import ConfigError
from tvm_rsq.layer_override import LayerScheme
from tvm_rsq.sensitivity import LayerSensitivity

_LEAST_DIVERGENCE = 1e-6  # nats in all: below it nothing is told apart by a few images
_MOST = 4.0  # times the median of all layers: a layer that costs more than that is no licence for the others


def allowance(found: Sequence[LayerSensitivity], budget: float) -> float:
    """What per-tensor layers may cost together, in nats: `budget` times the sum of KL_PC over the layers, none of them for more than four
    times the median.

    ConfigError: a negative budget.
    """
    if not budget >= 0:
        raise ConfigError(f"budget is {budget!r}, expected a fraction of at least 0, such as 0.02")
    per_channel = [layer.per_channel for layer in found if math.isfinite(layer.per_channel)]
    most = _MOST * statistics.median(per_channel) if per_channel else 0.0
    return budget * max(math.fsum(min(value, most) for value in per_channel), _LEAST_DIVERGENCE)


def excess(found: LayerSensitivity) -> float:
    """What per-tensor costs this layer beyond per-channel, in nats (see above); infinite if KL_PT is no finite number."""
    return expected_excess(found.per_tensor, found.per_channel, found.error_ratio)


def expected_excess(divergence: float, baseline: float, error_ratio: float) -> float:
    """Nats beyond the baseline, at least 0; infinite if a divergence is no finite number.   error_ratio: of the weights' squared errors"""
    if not (math.isfinite(divergence) and math.isfinite(baseline)):
        return math.inf
    if baseline == 0:
        return max(0.0, divergence)
    return max(0.0, divergence - baseline, (error_ratio - 1) * baseline)


def choose(found: Sequence[LayerSensitivity], nats: float, *, scheme: Scheme = "hybrid") -> dict[str, tuple[LayerScheme, str]]:
    """Layer -> (scheme, reason in one phrase), in the order of `found`.

    nats  what all per-tensor layers together may cost (see `allowance`); only "hybrid" looks at it
    Equal excesses are taken in the order of the layers' names. ConfigError: a negative allowance or an unknown scheme.
    """
    if scheme in ("per_tensor", "per_channel"):
        return {layer.layer: (scheme, f"{scheme} for every layer") for layer in found}
    if scheme != "hybrid":
        raise ConfigError(f"scheme is {scheme!r}, expected hybrid, per_tensor or per_channel")
    if not nats >= 0:
        raise ConfigError(f"the budget is {nats!r} nats, expected at least 0")

    spent, per_tensor = 0.0, set()
    for layer in sorted(found, key=lambda layer: (excess(layer), layer.layer)):
        # An infinite excess fits in no budget, not even in an infinite one.
        if not (math.isfinite(excess(layer)) and spent + excess(layer) <= nats):
            break
        spent += excess(layer)
        per_tensor.add(layer.layer)
    return {layer.layer: _decision(layer, layer.layer in per_tensor) for layer in found}


def _decision(layer: LayerSensitivity, fits: bool) -> tuple[LayerScheme, str]:
    cost = excess(layer)
    if fits:
        return "per_tensor", "per tensor no worse" if cost == 0 else f"per tensor +{cost:.2g} nats, within budget"
    return "per_channel", f"per tensor +{cost:.2g} nats, beyond budget"
