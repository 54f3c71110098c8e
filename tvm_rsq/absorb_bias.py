"""High-bias absorption: what every value of a channel exceeds moves into the biases of the next layer, so that ranges become smaller.

    relu(y) = relu(y - c) + c    where y >= c        bias_first -= c        bias_second += sum over taps and channels of W_second * c
    c = max(0, mean - 3 std)                         of y, the channel before the relu

Equalization makes such channels: it enlarges biases along with weights. 99.865% of a normal channel lies above c, the rest is cut off.
(Nagel et al., ICCV 2019, "Data-Free Quantization Through Weight Equalization and Bias Correction", section 4.1.3.)
The sum over taps counts what a padded layer reads as zero, too. The paper passes over that; here such layers are left out unless asked for.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from tvm_rsq.layer_links import layer_links
from tvm_rsq.layer_statistics import NormalStatistics, statistics_of
from tvm_rsq.model import Model

_DEVIATIONS = 3


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Absorbed:
    """model    with other biases, the same parameters
    amounts  weight name -> float64 (O,), what was taken off each output of the layer; layers that are not listed lost nothing
    """

    model: Model
    amounts: Mapping[str, np.ndarray]


def absorb_bias(model: Model, statistics: Mapping[str, NormalStatistics], *, padded: bool = False) -> Absorbed:
    """The network with high biases moved on, the same function except below c, and at borders where padded=True says so.

    model       deploy form; left alone
    statistics  weight name -> the layer's output before any activation, of this model: what `batch_norm_of_layers` found in its source,
                times the factors of `equalize_weights`
    padded      also into layers that pad, as in the paper: their outputs at the border are then off by W * c of the taps outside
    Only through a relu without an upper bound, and only where both layers have a bias. ModelError: statistics of another shape, or not the
    deploy form.
    """
    params, amounts = dict(model.params), {}
    for link in layer_links(model):
        first, second = link.first, link.second
        if first.name not in statistics or first.bias is None or second.bias is None or (link.low, link.high) != (0, math.inf):
            continue
        if second.padded and not padded:
            continue
        known = statistics_of(statistics, first.name, params[first.bias].size)
        amount = np.maximum(known.mean - _DEVIATIONS * known.std, 0)
        if amount.any():
            amounts[first.name] = amount
            params[first.bias] = (params[first.bias] - amount).astype(np.float32)  # its last axis counts the channels
            params[second.bias] = (params[second.bias] + second.response(params[second.name], amount)).astype(np.float32)
    return Absorbed(model=replace(model, params=params), amounts=amounts)
