"""LayerPlan: every decision about one layer, what it was decided from, and what no record may hold."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tvm_rsq.codebook.scaled_levels import ScaledLevels
from tvm_rsq.errors import ConfigError
from tvm_rsq.layer_override import ACCUMULATE16, CODEBOOK_BITS, REQUANTIZE, LayerScheme
from tvm_rsq.targets.workload import Accumulate16, RequantizeArithmetic
from tvm_rsq.weight_grid import WeightGrid


@dataclass(frozen=True, slots=True, kw_only=True)
class Alternative:
    """One way to compute a layer that was considered.

    kl       KL(FP32 || this layer alone quantized so) in nats, None where it was not measured
    time_us  measured time of the layer's kernel on the target, None without a target; where the plan's provenance names another
             measure than time, that
    shared_residual  whether the residual that it adds has the output's scale
    """

    scheme: LayerScheme
    requantize: RequantizeArithmetic = "float"
    accumulate16: Accumulate16 = 0
    shared_residual: bool = False
    kl: float | None = None
    time_us: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GridTrial:
    """One grid that a layer's weights might be stored on.

    bits, codebook  of its 2^bits levels, whether they are a codebook's
    weight_nmse     mean((w - w_q)^2) / mean(w^2), rounded to nearest
    weight_bytes    of the codes and the codebook
    kl              KL(FP32 || this layer alone quantized so) in nats
    """

    bits: int
    codebook: bool
    weight_nmse: float
    weight_bytes: int
    kl: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerPlan:
    """What one convolution or dense layer became, and why.

    name                 the layer: its weight parameter
    op                   "conv2d", "depthwise_conv2d" or "dense"
    scheme               "per_tensor", "per_channel" or "float"
    weight_scale         one float32 per output channel, or a single one; other numbers become the nearest float32
    weight_bits          of the weight's grid; 32 for float without a codebook
    output               the tensor its result is stored as
    kl_per_tensor        KL(FP32 || this layer alone quantized per tensor) in nats, None where it was not measured
    kl_per_channel       the same per channel
    weight_nmse          mean((w - w_q)^2) / mean(w^2) under the chosen scheme; None for float without a codebook
    macs                 multiply-accumulates for one input of the exported batch
    weight_bytes         of its codes or integers: size * bits / 8, or 4 bytes a weight for float without a codebook; scales and books are
                         not counted
    requantize           "float", "shift" (effective multipliers are powers of two) or "fixed_point"; "float" for a layer in float
    codebook             the 2^weight_bits values that integer weights may have, ascending; several where output channels b * ceil(O / B)
                         and on have a book b of their own; none on a uniform grid. Of a layer in float: one book, of the 2^weight_bits
                         float32 levels that its weights have in units of weight_scale, or none
    accumulate16         0, or that of Conv2DWorkload.accumulate16 whose promise the weights keep
    time_us              of its kernel on the target as measured for this decision, as of Alternative
    considered           what it was chosen from
    grids                what its weights' grid was chosen from, where it was
    reason               one phrase
    """

    name: str
    op: str
    scheme: LayerScheme
    weight_scale: tuple[float, ...] = ()
    weight_bits: int = 8
    output: str = ""
    kl_per_tensor: float | None = None
    kl_per_channel: float | None = None
    weight_nmse: float | None = None
    macs: int = 0
    weight_bytes: int = 0
    requantize: RequantizeArithmetic = "float"
    accumulate16: Accumulate16 = 0
    codebook: tuple[tuple[float, ...], ...] = ()
    time_us: float | None = None
    considered: tuple[Alternative, ...] = ()
    grids: tuple[GridTrial, ...] = ()
    reason: str = ""

    def __post_init__(self) -> None:
        if self.requantize not in REQUANTIZE or self.accumulate16 not in ACCUMULATE16:
            raise ConfigError(
                f"layer {self.name}: requantize {self.requantize!r}, accumulate16 {self.accumulate16!r}, expected one of {REQUANTIZE} and "
                f"one of {ACCUMULATE16}"
            )
        if self.scheme == "float" and (self.requantize != "float" or self.accumulate16):
            raise ConfigError(f"layer {self.name} is left in float and has neither requantize nor accumulate16")
        if self.scheme == "per_tensor" and len(self.weight_scale) != 1:
            raise ConfigError(f"layer {self.name} is per tensor and has {len(self.weight_scale)} weight scales, expected 1")
        object.__setattr__(self, "weight_scale", tuple(np.asarray(self.weight_scale, np.float32).astype(np.float64).tolist()))
        if not all(scale > 0 for scale in self.weight_scale):
            raise ConfigError(f"layer {self.name} has a weight scale of {min(self.weight_scale)}, expected positive ones")
        if self.codebook and self.accumulate16:
            raise ConfigError(f"layer {self.name} has a codebook and accumulate16, which rules it out")
        counts = len(self.codebook), len(self.weight_scale)
        if self.codebook and self.scheme == "float" and (counts[0] > 1 or not counts[1]):
            one_each = "expected 1, and a scale for each output channel"
            raise ConfigError(f"layer {self.name} is in float and has {counts[0]} codebooks and {counts[1]} weight scales, {one_each}")
        fits, kind = (fits_float, "float32 values") if self.scheme == "float" else (fits_grid, "whole numbers from -127 to 127")
        for book in self.codebook:
            ascending = sorted(set(book))
            padded = ascending + ascending[-1:] * (len(book) - len(ascending))
            if self.weight_bits not in CODEBOOK_BITS or len(book) != 2**self.weight_bits or list(book) != padded or not fits(book):
                what = f"{2**self.weight_bits} ascending {kind}, one of them 0, and only the last repeated"
                raise ConfigError(f"layer {self.name} has the codebook {list(book)[:20]} of {self.weight_bits} bits, expected {what}")

    @property
    def grid(self) -> WeightGrid:
        """What its weights may be; of a layer that is quantized."""
        books = np.array(self.codebook, np.int8) if self.codebook else None
        return WeightGrid(scale=np.asarray(self.weight_scale, np.float32), bits=self.weight_bits, books=books)

    @property
    def levels(self) -> ScaledLevels | None:
        """What its weights may be, of a layer in float that has a codebook; None for any other."""
        if self.scheme != "float" or not self.codebook:
            return None
        return ScaledLevels(levels=np.array(self.codebook[0], np.float32), scale=np.array(self.weight_scale, np.float32))


def fits_grid(book: Sequence[float]) -> bool:
    """Whether they are on the int8 grid, with 0 among them."""
    return 0 in book and min(book) >= -127 and max(book) <= 127 and all(entry == int(entry) for entry in book)


def fits_float(book: Sequence[float]) -> bool:
    """Whether float32 holds them exactly, with 0 among them."""
    return 0 in book and all(math.isfinite(entry) and float(np.float32(entry)) == entry for entry in book)
