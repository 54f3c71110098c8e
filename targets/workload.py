"""Workloads: what a kernel has to compute, as frozen values that can be compared, hashed and tuned by.

All activations are NHWC. `real = scale * (q - zero_point)` throughout; accumulators and biases are int32 in units of
`scale_input * scale_weight`, and the correction for the input's zero point is already inside the bias.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Epilogue:
    """What becomes of the accumulator before it is stored.   acc is int32, m = multiplier (float32).

    out="uint8":    q = clip(rne(fma(float32(acc + bias), m, c)), qmin, qmax)
                    c = zero_point without residual; with it c = fma(float32(residual), r0, r1), where
                    r0 = s_residual / s_out and r1 = zero_point - zp_residual * r0 come in as `residual_affine`
    out="float32":  y = clip(fma(float32(acc + bias), m, c), low, high)
                    c = 0 without residual; r0 = s_residual and r1 = -zp_residual * s_residual with it
    rne is round-half-to-even, fma rounds once (float32). Where c is the zero point, rne(fma(...)) is one rounding, straight to the integer.
    """

    out: Literal["uint8", "float32"] = "uint8"
    per_channel: bool = False
    residual: bool = False
    zero_point: int = 0
    qmin: int = 0
    qmax: int = 255
    low: float = float("-inf")
    high: float = float("inf")


@dataclass(frozen=True, slots=True, kw_only=True)
class Conv2DWorkload:
    """A 2-d convolution, NHWC x OHWI -> NHWC.   data (N, H, W, IC) uint8, weight (OC, KH, KW, IC/groups) int8.

    padding is (top, left, bottom, right) and pads with `input_zero_point`.
    A dense layer (N, IC) x (OC, IC) is the case H = W = KH = KW = 1.
    in_dtype "float32" is the float kernel: float32 data, weight and bias; `epilogue` then holds only out="float32", low, high, residual
    (added as it is), and the multiplier is not an argument.
    """

    batch: int
    height: int
    width: int
    in_channels: int
    out_channels: int
    kernel: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    in_dtype: Literal["uint8", "float32"] = "uint8"
    input_zero_point: int = 0
    epilogue: Epilogue = Epilogue()

    @property
    def out_height(self) -> int:
        return (self.height + self.padding[0] + self.padding[2] - self.dilation[0] * (self.kernel[0] - 1) - 1) // self.stride[0] + 1

    @property
    def out_width(self) -> int:
        return (self.width + self.padding[1] + self.padding[3] - self.dilation[1] * (self.kernel[1] - 1) - 1) // self.stride[1] + 1

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one call."""
        per_output = self.kernel[0] * self.kernel[1] * self.in_channels // self.groups
        return self.batch * self.out_height * self.out_width * self.out_channels * per_output

    @property
    def is_depthwise(self) -> bool:
        return self.groups == self.in_channels == self.out_channels and self.groups > 1
