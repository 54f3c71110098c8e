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
from dataclasses import replace
from functools import partial

from tvm_rsq.calibration_set import CalibrationSet
from tvm_rsq.executor import Executor
from tvm_rsq.layer_facts import Candidate, LayerFacts
from tvm_rsq.layer_plans import fitted
from tvm_rsq.plan import TensorQuant
from tvm_rsq.progress import ProgressCallback, silent
from tvm_rsq.sensitivity import measure

EIGHT = 8


def keep_eight_bits(
    facts: Sequence[LayerFacts], share: float, tensors: Mapping[str, TensorQuant], calibration: CalibrationSet, *, executor: Executor,
    base: Mapping[str, Candidate], learned: bool = False, progress: ProgressCallback = silent,
) -> dict[str, str]:  # fmt: skip
    """Layer -> why, a phrase for the report, of the layers that are to keep 8 bits, in execution order.

    facts  of all layers, with the few bits
    share  of all weights of quantized layers, from 0 to 1
    base   how the layers that may be chosen are computed otherwise
    learned  whether their roundings will be
    """
    quantized = [layer for layer in facts if not layer.in_float]
    room = share * sum(layer.weight.size for layer in quantized)
    low = [layer for layer in quantized if layer.name in base and layer.bits < EIGHT and layer.weight.size <= room]
    if not low:
        return {}
    sizes = {layer.name: layer.weight.size for layer in low}
    if learned:
        taken = _chosen(dict.fromkeys(sizes, 1.0), sizes, room)
        return {layer.name: f"8 bits, not {layer.bits}: one of the smallest layers" for layer in low if layer.name in taken}
    trials = {}
    for layer in low:
        uniform = replace(base[layer.name], nonuniform=False)
        eight = replace(layer, bits=EIGHT)
        ways = [(layer, fitted(layer, base[layer.name], tensors)[:2]), (eight, fitted(eight, uniform, tensors)[:2])]
        trials[layer.name] = [partial(way.real, way.integers(candidate, grid), grid) for way, (candidate, grid) in ways]
    found = measure(executor.model, calibration, tensors, trials, executor=executor, progress=progress)
    gains = _chosen({name: gain(*pair) for name, pair in found.items()}, sizes, room)
    return {layer.name: why(layer.bits, gains[layer.name]) for layer in low if layer.name in gains}


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
