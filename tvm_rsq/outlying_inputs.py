"""Input channels whose weights dwarf the others' and whose values leave room: a part of the weights moves into the values.

Where a batch norm stands behind relu, what it divides by is folded into the next layer's weights. A channel that never fires has next to no
deviation, and its weights become hundreds of times larger than all others: every row of the layer then has a scale that leaves one or two
levels to the weights that matter, for the sake of a channel that is 0. With

    m_c = max |W[..., c]|        want_c = m_c / (4 * median of m)        room_c = what the tensor reaches / what its channel c reaches

channel c is multiplied by s_c = min(want_c, room_c) where that is more than 1, and its weights divided by it. Four leaves all weights alone
that differ as trained weights do. A channel that never fires in the data is taken to reach half a step of its tensor's 255, which is the
most that it could reach and still be stored as 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from tvm_rsq.scaling_groups import ScalingGroup, is_depthwise

_USUAL = 4.0  # times the median channel
_HALF_STEP = 1 / 510


def outlying(params: Mapping[str, np.ndarray], group: ScalingGroup) -> np.ndarray:
    """want_c of the group's channels, at least 1, float64 (C,): the most that any of its consumers wants.

    Depthwise layers have a scale for each channel and want nothing; nor do groups behind relu6, where a scaled channel is cut off.
    """
    wanted = np.ones(params[group.producers[0]].shape[0 if params[group.producers[0]].ndim == 4 else -1])
    if np.isfinite(group.ceiling):
        return wanted
    for weight in (params[layer] for layer in group.consumers):
        if is_depthwise(weight):
            continue
        axis = 0 if weight.ndim == 2 else weight.ndim - 1
        largest = np.abs(weight.astype(np.float64)).max(tuple(i for i in range(weight.ndim) if i != axis))
        if (largest > 0).any():
            wanted = np.maximum(wanted, largest / (_USUAL * np.median(largest[largest > 0])))
    return wanted


def room(extremes: Sequence[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """room_c, float64 (C,).   extremes: (smallest, largest) value of every channel, of every tensor that is stored"""
    found = np.full(extremes[0][0].shape, 1 / _HALF_STEP)
    for low, high in extremes:
        for side in (np.maximum(-low, 0), np.maximum(high, 0)):
            if side.max() > 0:
                found = np.minimum(found, side.max() / np.maximum(side, _HALF_STEP * side.max()))
    return found
