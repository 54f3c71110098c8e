"""Ranges that calibration data cannot tell, from the batch norms' statistics instead.

A trained network has channels that fire rarely and then hugely: in ResNet-50 up to 30 deviations above their mean. Synthetic images
match a layer's statistics on average, and leave some of these channels at a small part of the deviation that they had in training. Whatever
such a channel may reach has not been seen; a range without it clips it on real images. So, where

    std of channel c on the calibration data < 0.5 * std of training

the tensor's range is widened to hold mean_c +- 8 std_c of training (for a sum with a residual, the residual's observed mean is added).
Eight is a compromise: of 2,048 images' activations in the development networks, the largest value of a median channel lies 5 to 9
deviations out; wider ranges cost resolution everywhere else.

Data that is set right at every layer (see standardized_executor) has no silent channels, and lighter tails than photographs where channels
stand for things that a photograph has and leaves do not (MobileNetV2's last depthwise layer has 0.3 of the range of photos): there every
channel is given 4 deviations, whatever the bits of its tensor, though only 8 were measured.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tvm_rsq.calibration_set import CalibrationSet
from tvm_rsq.channel_moments import channel_moments
from tvm_rsq.executor import Executor
from tvm_rsq.layer_statistics import NormalStatistics
from tvm_rsq.passes.dataflow import Dataflow
from tvm_rsq.passes.find_islands import Island, Islands
from tvm_rsq.quantize_layers import bias_of

SILENT = 0.5
DEVIATIONS = 8.0
LEAST_DEVIATIONS = 4.0

Range = tuple[float, float]


def widen_silent(
    ranges: Mapping[str, Range], statistics: Mapping[str, NormalStatistics], calibration: CalibrationSet, *, executor: Executor,
    view: Dataflow, islands: Islands, origin: Mapping[str, str],
) -> dict[str, Range]:  # fmt: skip
    """`ranges` (tensor -> low, high), some of them wider: of sets of images, where channels are silent; of source "statistics", for every
    channel.

    statistics  layer -> what its output with bias had in training, float64 (O,) each
    origin      stored tensor -> the one whose range it has (see origins)
    """
    layers = {i.output: i for i in islands.islands if i.layer in statistics and origin.get(i.output) in ranges}
    every = calibration.source == "statistics"
    biased = set() if every else {_biased(view, island) for island in layers.values()}
    wanted = biased | {r for i in layers.values() if (r := residual_of(view, i))}
    observed = channel_moments(executor, calibration, wanted) if wanted else {}
    deviations = LEAST_DEVIATIONS if every else DEVIATIONS
    found = dict(ranges)
    for output, island in layers.items():
        trained = statistics[str(island.layer)]
        chosen = (trained.std > 0) if every else observed[_biased(view, island)][1] < SILENT * trained.std
        if not chosen.any():
            continue
        mean = trained.mean
        if (residual := residual_of(view, island)) is not None:
            mean = mean + observed[residual][0]
        reach = float((mean - deviations * trained.std)[chosen].min()), float((mean + deviations * trained.std)[chosen].max())
        floor, ceiling = activation_bounds(view, island)
        low, high = found[origin[output]]
        found[origin[output]] = min(low, max(reach[0], floor)), max(high, min(reach[1], ceiling))
    return found


def _biased(view: Dataflow, island: Island) -> str:
    """The variable that holds the layer's sums with its bias."""
    return island.ops[1] if bias_of(view, island.ops) is not None else island.ops[0]


def residual_of(view: Dataflow, island: Island) -> str | None:
    """The tensor that the layer's kernel adds."""
    return next((name for op in island.ops[1:] for name in view.nodes[op].operands if name in island.inputs), None)


def activation_bounds(view: Dataflow, island: Island) -> Range:
    """What the island's activation lets through."""
    node = view.nodes[island.output]
    if node.op == "nn.relu":
        return 0.0, np.inf
    if node.op == "clip":
        return float(node.expr.args[1].value), float(node.expr.args[2].value)
    return -np.inf, np.inf
