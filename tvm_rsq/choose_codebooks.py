"""Which layers get a codebook where it is allowed: those of few bits, unless they diverge clearly more with it than on a uniform grid.

    uniform where     KL_codebook - KL_uniform  >  KL_uniform / 2    and    > a hundredth of the sum of all layers' KL_uniform

each with this layer alone quantized, in nats, see `sensitivity`. A codebook nearly always has the smaller error of weights, two thirds at 4
bits; a few images tell less than that about a layer that costs little. (MobileNetV2 W4A8, all layers alike, one seed, KL on 500
photos: 0.37 with codebooks wherever the layer alone diverged less, rounded to nearest; 0.28 with one in every layer; 0.49 with none.)
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from tvm_rsq.layer_record import GridTrial

_PART_OF_OWN, _PART_OF_ALL = 0.5, 0.01


def choose_codebooks(trials: Mapping[str, Sequence[GridTrial]]) -> dict[str, str]:
    """Layer -> why, a phrase for the report, of the layers that are to have a codebook.   trials: of each, uniform and with one"""
    pairs = {name: (found[0].kl, found[1].kl) for name, found in trials.items() if len(found) == 2}
    least = _PART_OF_ALL * math.fsum(uniform for uniform, _ in pairs.values() if math.isfinite(uniform))
    return {name: _why(*pair) for name, pair in pairs.items() if not _worse(*pair, least)}


def _worse(uniform: float, codebook: float, least: float) -> bool:
    """Whether the codebook's divergence is clearly the larger, or is no number."""
    return not codebook - uniform <= max(least, _PART_OF_OWN * uniform) if math.isfinite(uniform) else not math.isfinite(codebook)


def _why(uniform: float, codebook: float) -> str:
    """A phrase for the report."""
    return f"codebook: {codebook:.2g} nats, uniform {uniform:.2g}"
