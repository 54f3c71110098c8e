"""Which layers keep 8 bits where the rest has fewer, as far as a share of all weights goes: those that gain the most for their size.

    gain(layer) = KL with its weight at the few bits - KL with it at 8 bits         nats, the layer alone, see `sensitivity`

Layers are taken in descending order of gain / weights while they fit. The first layer and depthwise ones have few weights, each of which
matters: 28 of MobileNetV2's 53 layers hold 3 % of its weights, and with these at 8 bits the rest can do with 4.

Where roundings are learned, the smallest layers are taken and nothing is measured: what a rounding costs before it is learned says little
about after, and the fewer weights there are, the less learning can make up for. (MobileNetV2 W4A8, one seed, fake-quant, KL on 500 photos:
0.084 so, 0.091 by gain; from worse images 0.108 and 0.104, so this is not settled; without learning 0.158 and 0.143.)
(Dong et al., "HAWQ-V2", NeurIPS 2020, rank by curvature; here the divergence itself is measured. BRECQ and QDrop leave the first and the
last layer at 8 bits, which is 37 % of the weights of MobileNetV2.)
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from tvm_rsq.layer_record import GridTrial

EIGHT = 8


def most_gained(trials: Mapping[str, Sequence[GridTrial]], sizes: Mapping[str, int], room: float) -> dict[str, str]:
    """Layer -> why, a phrase for the report, of the layers that are to keep 8 bits.

    trials  of each layer, at the few bits and at 8
    sizes   weights of each layer; room: for so many of them
    """
    gains = {name: gain(few.kl, eight.kl) for name, (few, eight) in trials.items()}
    chosen = _chosen(gains, sizes, room)
    return {name: why(trials[name][0].bits, chosen[name]) for name in trials if name in chosen}


def smallest(bits: Mapping[str, int], sizes: Mapping[str, int], room: float) -> dict[str, str]:
    """As `most_gained`, of layers whose roundings will be learned.   bits: of each layer, few"""
    chosen = _chosen(dict.fromkeys(sizes, 1.0), sizes, room)
    return {name: f"8 bits, not {bits[name]}: one of the smallest layers" for name in bits if name in chosen}


def gain(few: float, eight: float) -> float:
    """Of two divergences, at least 0.   A layer that is not finite at few bits gains without bound, one that is not at 8 gains nothing."""
    if not math.isfinite(eight):
        return 0.0
    return max(0.0, few - eight) if math.isfinite(few) else math.inf


def why(bits: int, gained: float) -> str:
    """A phrase for the report."""
    return f"8 bits, not {bits}: {gained:.2g} nats less" if math.isfinite(gained) else f"8 bits: the output is not finite at {bits}"


def _chosen(gains: Mapping[str, float], sizes: Mapping[str, int], room: float) -> dict[str, float]:
    taken: set[str] = set()
    for name in sorted(gains, key=lambda name: (-gains[name] / sizes[name], name)):
        if gains[name] > 0 and sizes[name] <= room:
            room -= sizes[name]
            taken.add(name)
    return {name: value for name, value in gains.items() if name in taken}
