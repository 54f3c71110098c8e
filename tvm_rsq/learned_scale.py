"""An activation's grid whose scale is learned, by the straight-through gradient of its rounding.

    y = s (clip(round(x / s) + z, 0, qmax) - z)
    dy/dx = 1 inside the range, 0 outside        dy/ds = (y - x) / s inside, -z below, qmax - z above

Esser et al., "Learned Step Size Quantization", ICLR 2020, equation 3. The scale is kept as s0 * exp(t), t learned: steps of Adam are then
parts of the scale, whatever its size. The zero point stays as it is.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch

from tvm_rsq.tensor_quant import TensorQuant


class LearnedScale:
    """The scale of tensors that share one.   t: float32 (), requires gradients"""

    def __init__(self, scale: float) -> None:
        self.start = scale
        self.t = torch.zeros((), requires_grad=True)

    def quantize(self, value: torch.Tensor, quant: TensorQuant) -> torch.Tensor:
        """float32 of value's shape, on the grid of `quant` with the learned scale."""
        return _Rounded.apply(value, self.start * self.t.exp(), quant.zero_point, 2**quant.bits - 1)  # type: ignore[no-untyped-call]

    def learned(self, quant: TensorQuant) -> TensorQuant:
        """`quant` with the learned scale, the float of a float32."""
        scale = torch.tensor(self.start * math.exp(float(self.t.detach())), dtype=torch.float32)
        return replace(quant, scale=float(scale))


class _Rounded(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: torch.Tensor, scale: torch.Tensor, zero_point: int, largest: int) -> torch.Tensor:
        steps = (value / scale).round_()
        low, high = -zero_point, largest - zero_point
        clipped = steps.clamp(low, high)
        made = clipped * scale
        ctx.save_for_backward(value, made, scale, clipped == steps)
        return made

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, None, None]:
        value, made, scale, inside = ctx.saved_tensors
        of_value = gradient * inside
        # made / scale is -z or qmax - z outside, and (made - value) / scale inside
        of_scale = ((gradient * made).sum() - (of_value * value).sum()) / scale
        return of_value, of_scale, None, None
