"""Soft rounding of a weight: each element is up to one step above the grid point below it, and learns which of the two to end at.

    w(v) = scale * (base + h(v))      h(v) = clip(sigmoid(v) (zeta - gamma) + gamma, 0, 1),   zeta = 1.1, gamma = -0.1
    penalty(v) = mean(1 - |2 h(v) - 1|^beta)

Nagel et al., "Up or Down? Adaptive Rounding for Post-Training Quantization", ICML 2020: h is equation 23, the penalty equation 24 (a mean
instead of a sum here). A large beta leaves all but the undecided elements alone, a small one pushes every element to an end.
"""

from __future__ import annotations

import numpy as np
import torch

ZETA, GAMMA = 1.1, -0.1
LEAN = 0.75  # how far an element starts on the way from its real place to the rounding that was given
_FIRST_BETA, _LAST_BETA, _WARM_UP = 20.0, 2.0, 0.2
_EDGE = 1e-4


class SoftRounding:
    """The soft rounding of one weight.   v: float32 of the weight's shape, requires gradients

    weight   float32, any shape
    scale    float32 (weight.shape[axis],), or (1,); it stays as it is
    levels   |q| <= levels
    rounded  a rounding to start from, scale * q: elements lean to it. One that is neither the point below nor the point above moves the
             two points that the element can end at. None: elements start where the real weight is
    """

    def __init__(
        self, weight: torch.Tensor, scale: np.ndarray, axis: int, levels: int, *, rounded: torch.Tensor | None = None
    ) -> None:  # fmt: skip
        shape = [-1 if i == axis and scale.size > 1 else 1 for i in range(weight.ndim)]
        self.scale = torch.from_numpy(np.array(scale, np.float32)).reshape(shape).to(weight.device)
        real = weight / self.scale
        base = real.floor().clamp(-levels, levels - 1)
        if rounded is None:
            start = real - base
        else:
            q = (rounded / self.scale).round().clamp(-levels, levels)
            base = torch.minimum(torch.maximum(base, q - 1), q)
            start = torch.lerp((real - base).clamp(0, 1), q - base, LEAN)
        self.base = base
        h = start.clamp(_EDGE, 1 - _EDGE)
        self.v = (-torch.log((ZETA - GAMMA) / (h - GAMMA) - 1)).requires_grad_()

    def weight(self) -> torch.Tensor:
        """float32 of the weight's shape, differentiable in v."""
        return self.scale * (self.base + _rectified(self.v))

    def penalty(self, beta: float) -> torch.Tensor:
        """In [0, 1]; 0 where every element is at one of its ends."""
        return 1 - (2 * _rectified(self.v) - 1).abs().pow(beta).mean()

    def hard(self) -> torch.Tensor:
        """float32, exactly scale * q with whole q, |q| <= levels: the end that each element is nearer to."""
        return self.scale * (self.base + (self.v.detach() >= 0).to(torch.float32))


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
