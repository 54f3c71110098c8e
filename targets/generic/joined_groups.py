"""Grouped convolutions with too few channels a group for a vector, as ones of fewer and wider groups.

    2 groups of 2 -> 2 channels        1 group of 4 -> 4 channels
        [a b]  [e f]                       [a b 0 0]
        [c d]  [g h]                       [c d 0 0]
                                           [0 0 e f]
                                           [0 0 g h]

The products with the zeros change no sum, and cost less than vectors that are not filled.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tvm_rsq.targets.workload import Conv2DWorkload

# No vector of int32 is worth less than this many lanes.
LEAST_CHANNELS = 4
# Beyond, the zeros cost more than a vector gains. A group with more inputs has a run that LLVM vectorises over.
_MOST_JOINED, _MOST_INPUTS = 8, 16


def joined_groups(w: Conv2DWorkload) -> Conv2DWorkload | None:
    """A workload of fewer groups for the integer workload `w`, its weights to be packed behind `join_weight`; None: `w` gains nothing.

    It promises nothing about sums: see Conv2DWorkload.accumulate16.
    """
    outs, ins = w.out_channels // w.groups, w.in_channels // w.groups
    if w.in_dtype == "float32" or w.is_depthwise or outs >= LEAST_CHANNELS or ins >= _MOST_INPUTS:
        return None
    fitting = (f for f in range(2, min(_MOST_JOINED, w.groups) + 1) if w.groups % f == 0 and f * outs >= LEAST_CHANNELS)
    joined = next(fitting, None)
    return None if joined is None else replace(w, groups=w.groups // joined, accumulate16=0)


def join_weight(weight: np.ndarray, groups: int, joined: int) -> np.ndarray:
    """(OC, KH, KW, IC / groups) of `groups` groups -> (OC, KH, KW, IC / groups * joined) of groups / joined, with zeros."""
    channels, rows, cols, ins = weight.shape
    blocks = weight.reshape(groups // joined, joined, channels // groups, rows, cols, ins)
    wide = np.zeros((groups // joined, joined, channels // groups, rows, cols, joined, ins), weight.dtype)
    for i in range(joined):
        wide[:, i, :, :, :, i] = blocks[:, i]
    return wide.reshape(channels, rows, cols, joined * ins)
