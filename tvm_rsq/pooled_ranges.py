"""Ranges of averages over an image, from noise: as far as real images reach, which noise does not.

Positions of noise are nearly independent, so that their average hardly varies; what a photo shows is in many positions at once. If all
positions of a channel agreed, its average would vary as a single position does. So

    high = max over channels c of  mean_c + 4 * std_c        low likewise

where mean_c and std_c are of what is averaged, over samples and positions.

With four deviations that is 5.6, 4.2 and 10.4 on MobileNetV2, EfficientNet-Lite0 and ResNet-50, whose averages over a hundred photos reach
5.2, 5.2 and 15.8 (and in 99.9 % of channels 3.2, 3.0 and 7.3), where noise of a natural
spectrum reaches 2.9, 2.1 and 3.2 (leaves, which took its place, were not measured so).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tvm_rsq.calibration_set import CalibrationSet
from tvm_rsq.channel_moments import channel_moments
from tvm_rsq.executor import Executor
from tvm_rsq.passes import operator_roles as roles
from tvm_rsq.passes.dataflow import Dataflow

DEVIATIONS = 4.0

Range = tuple[float, float]


def widen_pooled(
    ranges: Mapping[str, Range], calibration: CalibrationSet, *, executor: Executor, view: Dataflow, origin: Mapping[str, str]
) -> dict[str, Range]:
    """`ranges` (tensor -> low, high), those of averages over an image wider, though within the range of what is averaged.

    origin  stored tensor -> the one whose range it has (see origins)
    """
    named = [node for node in view.nodes.values() if origin.get(node.name) in ranges and roles.is_spatial_mean(view, node)]
    pooled = {node.name: node.operands[0] for node in named}
    moments = channel_moments(executor, calibration, set(pooled.values()))
    found = dict(ranges)
    for name, source in pooled.items():
        mean, std = moments[source]
        within = ranges.get(origin.get(source, source), (-np.inf, np.inf))
        reach = float((mean - DEVIATIONS * std).min()), float((mean + DEVIATIONS * std).max())
        low, high = found[origin[name]]
        found[origin[name]] = min(low, max(reach[0], within[0])), max(high, min(reach[1], within[1]))
    return found
