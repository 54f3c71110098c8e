"""Soft rounding of a weight: each element is up to one step above the grid point below it, and learns which of the two to end at.

    w(v) = scale * (base + gap * h(v))      h(v) = clip(sigmoid(v) (zeta - gamma) + gamma, 0, 1),   zeta = 1.1, gamma = -0.1
    penalty(v) = mean(1 - |2 h(v) - 1|^beta)

Nagel et al., "Up or Down? Adaptive Rounding for Post-Training Quantization", ICML 2020: h is equation 23, the penalty equation 24 (a mean
instead of a sum here). On a codebook gaps differ, on a uniform grid they are 1.
A large beta leaves all but the undecided elements alone, a small one pushes every element to an end.
"""

from __future__ import annotations

import numpy as np
import torch

from tvm_rsq.grid_points import GridPoints
from tvm_rsq.weight_grid import WeightGrid

ZETA, GAMMA = 1.1, -0.1
LEAN = 0.75  # how far an element starts on the way from its real place to the rounding that was given
_FIRST_BETA, _LAST_BETA, _WARM_UP = 20.0, 2.0, 0.2
_EDGE = 1e-4


class SoftRounding:
    """The soft rounding of one weight.   v: float32 of the weight's shape, requires gradients

    weight   float32, any shape
    grid     its points; scales stay as they are
    axis     of output channels
    rounded  a rounding to start from, a point each: elements lean to it. One that is neither the point below nor the point above moves the
             two points that the element can end at. None: elements start where the real weight is
    """

    def __init__(self, weight: torch.Tensor, grid: WeightGrid, axis: int, *, rounded: torch.Tensor | None = None) -> None:
        shape = [-1 if i == axis and grid.scale.size > 1 else 1 for i in range(weight.ndim)]
        self.scale = torch.from_numpy(np.array(grid.scale, np.float32)).reshape(shape).to(weight.device)
        points, real = GridPoints(grid, weight, axis), weight / self.scale
        below = points.below(real)
        if rounded is not None:
            q = points.closest(rounded / self.scale)
            # One above the last point would be no point; where q is the last, what is below it is meant.
            below = torch.minimum(torch.maximum(below, q - 1), q)
            below = torch.minimum(below, points.below(points.value(below)))
        self.base = points.value(below)
        self.gap = points.value(below + 1) - self.base
        part = torch.where(self.gap > 0, (real - self.base) / self.gap, 0.0)
        start = part if rounded is None else torch.lerp(part.clamp(0, 1), (q - below).to(part.dtype), LEAN)
        h = start.clamp(_EDGE, 1 - _EDGE)
        self.v = (-torch.log((ZETA - GAMMA) / (h - GAMMA) - 1)).requires_grad_()

    def weight(self) -> torch.Tensor:
        """float32 of the weight's shape, differentiable in v."""
        return self.scale * (self.base + self.gap * _rectified(self.v))

    def penalty(self, beta: float) -> torch.Tensor:
        """In [0, 1]; 0 where every element is at one of its ends."""
        return 1 - (2 * _rectified(self.v) - 1).abs().pow(beta).mean()

    def hard(self) -> torch.Tensor:
        """float32, exactly scale * q with q a point of the grid: the end that each element is nearer to."""
        return self.scale * (self.base + self.gap * (self.v.detach() >= 0).to(torch.float32))


def annealed_beta(progress: float) -> float | None:
    """The penalty's exponent: None, no penalty, for the first fifth of the way; then from 20 down to 2 along half a cosine's arc.

    progress  in [0, 1]
    """
    if progress < _WARM_UP:
        return None
    part = (progress - _WARM_UP) / (1 - _WARM_UP)
    return _LAST_BETA + (_FIRST_BETA - _LAST_BETA) * 0.5 * (1 + float(np.cos(np.pi * part)))


def _rectified(v: torch.Tensor) -> torch.Tensor:
    return (torch.sigmoid(v) * (ZETA - GAMMA) + GAMMA).clamp(0, 1)
