"""Activation equalization: every channel of a tensor is scaled towards the whole of the tensor's range, and the next layer scales it back.

A tensor has one scale, its channels have ranges of their own: a channel that reaches a tenth of the range has 25 of 255 levels. For a
group of tensors (see scaling_groups) whose channel c would fit in their ranges r_c times over,

    s_c = min(r_c^(1/2), 16)            producers and biases * s_c, consumers / s_c

The square root is what SmoothQuant (Xiao et al., ICML 2023) found for what weights and activations share; here weights have a scale for
each output channel, which takes up a producer's factor whole, so that only consumers pay. Groups are taken where that is cheap: the
consumers are depthwise, with a scale for each channel of their own, or the tensors are linear bottlenecks, whose channels differ most.
In any other group, only channels whose weights are far larger than others' are scaled (see outlying_inputs).
Behind relu6, a channel is scaled by less (1/1.2 of r_c at most), since the scaled channel is cut off at 6: with the square root a channel
that reached v is cut off at no less than sqrt(5 v), far from what was seen.
The float function is the same but for that.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from tvm_rsq.calibration_set import CalibrationSet
from tvm_rsq.chunking import chunks, samples_within
from tvm_rsq.executor import Executor
from tvm_rsq.layer_statistics import NormalStatistics
from tvm_rsq.model import Model
from tvm_rsq.outlying_inputs import outlying, room
from tvm_rsq.scaling_groups import ScalingGroup, rescaled, scaling_groups

_EXPONENT, _MOST, _CLIP_MARGIN = 0.5, 16.0, 1.2
_FAINT = 0.02  # of the range: the side of zero on which a channel reaches less does not limit it
_CHUNK_BYTES = 128 * 2**20


@dataclass(frozen=True, kw_only=True, eq=False)
class Equalized:
    """model: with other parameters; factors: layer -> what its output channels were multiplied by, float64 (O,)"""

    model: Model
    factors: dict[str, np.ndarray]

    def statistics(self, found: dict[str, NormalStatistics]) -> dict[str, NormalStatistics]:
        """Statistics of the layers' outputs, as they are now."""
        return {name: value.scaled(self.factors[name]) if name in self.factors else value for name, value in found.items()}


def equalize_activations(
    model: Model, calibration: CalibrationSet, stored: tuple[str, ...], *, executor: Executor | None = None, only_outlying: bool = False
) -> Equalized:
    """model: deploy form; stored: the tensors that are quantized; only_outlying: channels of outlying weights and no others are scaled.

    Networks without such groups come back as they are.
    """
    groups = [group for group in scaling_groups(model) if set(stored) & set(group.members)]
    wanted = {group.members: outlying(model.params, group) for group in groups}
    groups = [group for group in groups if (wanted[group.members] > 1).any() or (_cheap(group) and not only_outlying)]
    if not groups:
        return Equalized(model=model, factors={})
    extremes = channel_extremes(executor or Executor(model), calibration, {m for group in groups for m in group.members if m in stored})
    params, factors = dict(model.params), {}
    for group in groups:
        reached = [extremes[name] for name in group.members if name in extremes]
        factor = np.minimum(wanted[group.members], room(reached))
        if _cheap(group) and not only_outlying:
            factor = np.maximum(factor, _factor(group, reached))
        params.update(rescaled(params, group, factor))
        factors.update(dict.fromkeys(group.producers, factor))
    return Equalized(model=replace(model, params=params), factors=factors)


def _cheap(group: ScalingGroup) -> bool:
    return group.depthwise or group.linear


def channel_extremes(executor: Executor, calibration: CalibrationSet, names: set[str]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Tensor -> (smallest, largest) value of every channel (the last axis), float64 (C,)."""
    found: dict[str, tuple[np.ndarray, np.ndarray]] = {}

    def observe(name: str, value: torch.Tensor) -> None:
        if name in names:
            flat = value.reshape(-1, value.shape[-1])
            low, high = flat.amin(0).double().numpy(), flat.amax(0).double().numpy()
            before = found.get(name, (low, high))
            found[name] = np.minimum(before[0], low), np.maximum(before[1], high)

    with torch.no_grad():
        for _start, inputs in chunks(calibration, samples_within(_CHUNK_BYTES, executor, calibration)):
            executor.run(inputs, observe=observe)
    return found


def _factor(group: ScalingGroup, extremes: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """How much every channel is to be multiplied by.   extremes: (low, high) of every stored member"""
    room = np.full(extremes[0][0].shape, np.inf)
    for low, high in extremes:
        below, above = np.maximum(-low, 0), np.maximum(high, 0)
        width = below.max() + above.max()
        for side in (below, above):
            fits = np.divide(side.max(), side, out=np.full_like(side, np.inf), where=side > _FAINT * width)
            room = np.minimum(room, fits)
    if np.isfinite(group.ceiling):
        room = np.maximum(room / _CLIP_MARGIN, 1.0)
    return np.minimum(room**_EXPONENT, _MOST)
