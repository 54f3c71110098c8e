"""Workloads: what a kernel has to compute, as frozen values that can be compared, hashed and tuned by.

All activations are NHWC. `real = scale * (q - zero_point)` throughout; accumulators and biases are int32 in units of
`scale_input * scale_weight`: sums of weights times what is stored (see carrier.py). The correction for the zero point of what is stored is
already inside the bias.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tvm_rsq.targets.carrier import Carrier

RequantizeArithmetic = Literal["float", "shift", "fixed_point"]
Accumulate16 = Literal[0, 1, 2, 4, 32, 64]
CodeBits = Literal[3, 4, 6]
WeightType = Literal["int8", "int16", "float32"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Epilogue:
    """What becomes of the accumulator before it is stored.   total = acc + bias, int32; r = the residual's q; one of these:

    out a carrier, requantize="float":        m = multiplier, float32
        no residual                           q = clip(rne(total * m + zero_point))
        residual, shared_residual=False       q = clip(rne(fma(total, m, fma(float32(r), r0, r1))))
        residual, shared_residual=True        q = clip(rne(total * m + (zero_point + r - residual_zero_point)))
    out a carrier, requantize="shift":          k = multiplier, int32, 1 <= k <= 30
        no residual                           q = clip(total >> k)
        residual, always shared               q = clip((total >> k) + r)
        The bias that comes in holds the rest: 2^(k-1), for rounding half up, and (zero_point - residual_zero_point) * 2^k.
    out a carrier, requantize="fixed_point":  (y, s) = multiplier[0], multiplier[1], int32, 2^30 <= y < 2^31, 1 <= s <= 62, in 64 bits
        no residual                           q = clip(((total * y + 2^(s-1)) >> s) + zero_point)
        residual, shared_residual=False       ... + (((r - residual_zero_point) * y_r + 2^(s_r-1)) >> s_r)
                                              (y_r, s_r) = residual_affine, int32
        residual, shared_residual=True        ... + r - residual_zero_point
    out="float32", requantize="float":        y = clip(fma(total, m, c), low, high)
                                              c = 0 without residual; fma(float32(r), r0, r1), r0 = s_r and r1 = -zp_r * s_r with it

    rne rounds half to even. total is rounded to float32 first; then rne(... + an integer) is one rounding, straight to the integer, and
    fma rounds once, to float32. (r0, r1) = residual_affine, float32: r0 = s_r / s_out, r1 = zero_point - zp_r * r0.
    shared_residual says that the residual has the output's scale; there is no residual_affine argument then.
    bounded promises |q| < 2^21 before the clip, whatever the input, so that a kernel may round and pack without guarding against more;
    short promises -2^15 + 128 <= q < 2^15 besides: int16 holds q, and what a carrier stores of it.
    """

    out: Carrier | Literal["float32"] = "uint8"
    requantize: RequantizeArithmetic = "float"
    per_channel: bool = False
    residual: bool = False
    shared_residual: bool = False
    residual_zero_point: int = 0
    zero_point: int = 0
    qmin: int = 0
    qmax: int = 255
    low: float = float("-inf")
    high: float = float("inf")
    bounded: bool = False
    short: bool = False


def summed_products(accumulate16: int) -> int:
    """How many products fit int16 by a promise of `Conv2DWorkload.accumulate16`."""
    return accumulate16 // 8 if sums_sizes(accumulate16) else 2 * accumulate16


def sums_sizes(accumulate16: int) -> bool:
    """Whether that promise bounds the sum of all weights' sizes; otherwise of the positive and of the negative ones."""
    return accumulate16 >= 32


def largest_sum(accumulate16: int) -> int:
    """What it bounds them by."""
    return 255 if sums_sizes(accumulate16) else 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Conv2DWorkload:
    """A 2-d convolution, NHWC x OHWI -> NHWC.   data (N, H, W, IC), weight (OC, KH, KW, IC/groups) int8.

    padding is (top, left, bottom, right) and pads with q = `input_zero_point`. in_dtype is the carrier of data and residual.
    A dense layer (N, IC) x (OC, IC) is the case H = W = KH = KW = 1.
    accumulate16 > 0 promises that sums of some products fit int16, so that a kernel may form them there, by what groups of weights sum to.
    1, 2, 4  for pmaddubsw: the positive ones to 128 at most, the negative ones to -128 at least (255 * 128 < 2^15). The values of
             (KH, KW, IC/groups) in memory order, IC/groups a multiple of 4 * accumulate16, are cut into blocks of 4 * accumulate16; those
             of a block at positions (0, 1 mod 4) are a group, and those at (2, 3 mod 4)
    32, 64   for smlal, whose bytes are signed: the sizes of all weights sum to 255 at most (128 * 255 < 2^15). The values of each
             (KW, IC/groups), IC/groups a multiple of accumulate16, or any number where KH = KW = 1, are cut into blocks of so many, the
             last of which may be short; every eighth of a block is a group. Depthwise: groups are accumulate16 / 8 taps, in order
    code_bits > 0 says that the weights are entries of one codebook of 2^code_bits values, 0 among them.
    out_pitch > 0 stores into a part of a wider tensor, as a concatenation along the channels reads it: the output argument is
    (N, OH, OW, out_pitch), of which channels out_offset ... out_offset + OC - 1 are written, and no others. 0 is OC. A residual
    stays (N, OH, OW, OC).
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
    in_dtype: Carrier | Literal["float32"] = "uint8"
    input_zero_point: int = 0
    accumulate16: Accumulate16 = 0
    code_bits: CodeBits | Literal[0] = 0
    epilogue: Epilogue = Epilogue()
    out_pitch: int = 0
    out_offset: int = 0

    @property
    def out_shape(self) -> tuple[int, int, int, int]:
        """Of the output argument."""
        return self.batch, self.out_height, self.out_width, self.out_pitch or self.out_channels

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


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpandWorkload:
    """Weights of `shape` out of codes of so many bits.   What a slot is, and spread: see Kernel.

    one book       weight[i] = table[code of i]
    several books  weight[i] = table[offset of i's slot + code of i]
    float32        weight[i] = scale of i's slot * table[code of i]

    books   in the table, of 2^bits entries each; more than one has an offset for each slot, and so a spread
    """

    bits: CodeBits
    shape: tuple[int, ...]
    dtype: WeightType = "int8"
    books: int = 1
    spread: tuple[int, int, int, int] | None = None
