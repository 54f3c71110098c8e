"""What the user may decide: frozen configurations, checked when they are made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

from tvm_rsq.config_checks import number as _number
from tvm_rsq.config_checks import require as _require
from tvm_rsq.config_checks import whole as _whole
from tvm_rsq.layer_override import BITS, LayerOverride

SCHEMES = ("hybrid", "per_tensor", "per_channel")
LEVERS = ("per_tensor", "shift", "accumulate16", "shared_residual")
ARITHMETICS = ("float", "fixed_point")  # of a whole network

Scheme = Literal["hybrid", "per_tensor", "per_channel"]
RangeMethod = Literal["min_max", "percentile", "mse", "kl", "sigma"]
WeightRange = Literal["auto", "min_max", "mse"]
Equalization = Literal["auto", "none", "activations", "outlying", "weights"]
Rounding = Literal["auto", "nearest", "squant", "feedback", "adaround", "reconstruct"]
BiasCorrection = Literal["auto", "none", "empirical", "analytic"]
Source = Literal["auto", "retro-synthesis", "statistics", "zeroq", "generator", "gaussian", "uniform"]


_CHOICES: Mapping[str, tuple[str, ...]] = {
    "range_method": get_args(RangeMethod), "weight_range": get_args(WeightRange), "equalization": get_args(Equalization),
    "rounding": get_args(Rounding), "bias_correction": get_args(BiasCorrection),
}  # fmt: skip


def check_seed(seed: object) -> None:
    """ConfigError: not a seed that torch's generators take."""
    _require(_whole(seed) and 0 <= seed < 2**63, f"seed is {seed!r}, expected a whole number of at least 0, below 2**63")  # type: ignore[operator]


def check_effort(effort: object) -> None:
    """ConfigError: not an effort."""
    _require(effort in ("instant", "best"), f"effort is {effort!r}, expected instant or best")


@dataclass(frozen=True, slots=True, kw_only=True)
class SynthesisConfig:
    """How calibration data is made. None means: chosen for the network, and said in the output.

    images         how many inputs to synthesise
    batch          how many of them are optimised together
    steps          optimiser steps per batch
    learning_rate  of Adam, with a cosine schedule
    optimizer      "adam", "nadam" or "radam"
    class_weight   weight of the cross-entropy to random classes
    input_weight   weight of the input's Gaussian term
    swing          random shifts in front of strided convolutions (GENIE, CVPR 2023)
    low_pass       strength of the smoothing between steps, 0 switches it off
    time_limit_s   stop after so many seconds and keep the best so far
    source         "retro-synthesis", images that are optimised; "statistics", drawn images whose values are set right at every layer as its
                   batch norms say, without any optimisation; "auto", the former at effort "best" and the latter at "instant"; by the
                   recipes of others "zeroq" (CVPR 2020) or "generator" (GENIE, CVPR 2023), whose rates and losses are their own; or the
                   controls "gaussian" (N(0,1)) and "uniform" noise
    """

    images: int | None = None
    batch: int | None = None
    steps: int | None = None
    learning_rate: float = 0.1
    optimizer: Literal["adam", "nadam", "radam"] = "adam"
    class_weight: float = 0.02
    input_weight: float = 0.05
    swing: bool = True
    low_pass: float = 0.0
    time_limit_s: float | None = None
    source: Source = "auto"

    def __post_init__(self) -> None:
        for name in ("images", "batch", "steps"):
            value = getattr(self, name)
            _require(value is None or (_whole(value) and value >= 1), f"{name} is {value!r}, expected a whole number of at least 1")
        for name in ("class_weight", "input_weight"):
            value = getattr(self, name)
            _require(_number(value) and value >= 0, f"{name} is {value!r}, expected a number of at least 0")
        _require(_number(self.low_pass) and 0 <= self.low_pass <= 1, f"low_pass is {self.low_pass!r}, expected a number from 0 to 1")
        rate, limit = self.learning_rate, self.time_limit_s
        _require(_number(rate) and rate > 0, f"learning_rate is {rate!r}, expected a positive number")
        _require(limit is None or (_number(limit) and limit > 0), f"time_limit_s is {limit!r}, expected a positive number of seconds")
        _require(isinstance(self.swing, bool), f"swing is {self.swing!r}, expected True or False")
        sources = get_args(Source)
        _require(self.source in sources, f"source is {self.source!r}, expected {', '.join(sources[:-1])} or {sources[-1]}")
        _require(self.optimizer in ("adam", "nadam", "radam"), f"optimizer is {self.optimizer!r}, expected adam, nadam or radam")


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantConfig:
    """What to quantize to.

    weight_bits, activation_bits  4, 6 or 8; weights 3, too
    average_bits, most_divergence  instead of weight_bits, each layer has 3, 4, 6 or 8: so many in the mean over all weights, codebooks
                  counted, with the least divergence; or as few as possible while the network diverges by so many nats at most on the
                  calibration data, all per channel and before biases are corrected (see mixed_bits)
    eight_bit_share  of all weights, 0 to 1: layers that hold no more than that together keep 8 bits where weight_bits is less, those that
                  gain the most for their size, or the smallest where roundings are learned (see choose_bits)
    scheme        "per_tensor", "per_channel", or "hybrid": per-tensor where it costs next to nothing
    codebook_error  what a codebook is to make least: the squared error of the "weight", or of the layer's "output" (see weight_importance)
    codebook_channels  output channels that share a codebook, at most; None: all of a layer. Depthwise layers, of few weights a channel,
                  and layers in float have one all the same
    nonuniform    codebooks for the weights of layers of fewer than 8 bits, but those clearly worse with one (see choose_codebooks);
                  activations are uniform always
    effort        "instant" spends seconds where "best" spends minutes
    budget        how much more the hybrid network may diverge from FP32 than all-per-channel would, as a fraction: 0.02 is 2 % more
    range_method  of activations: "min_max", "percentile" (99.99), "mse", "kl", or "sigma" (six deviations of every batch norm,
                  whatever the data)
    weight_range  of weights: "min_max", or "mse", which clips the largest where that lessens the squared error
    equalization  "activations" (see equalize_activations), "outlying" (its part for weights that dwarf all others), "weights" (across
                  layers, with high biases absorbed: DFQ), or "none"
    rounding      of weights: "nearest", "squant" (errors of a kernel cancel), "feedback" (each rounding makes up for those before it), or
                  learned in minutes: "reconstruct" (block by block: BRECQ, QDrop), "adaround" (layer by layer)
    augment       learn roundings from mirrored and moved views of images too (see augment); not where a mirrored input means another thing
    bias_correction  "empirical" (from the calibration data), "analytic" (from batch norms: DFQ) or "none"
                  These four are "auto" by default, which `recipe` decides
    seed          of everything random. The same one gives the same network on the same machine the same plan, byte for byte; where
                  roundings are learned, for one number of torch's threads, which add up their gradients
    overrides     layer name or glob -> LayerOverride, or its text ("per_channel", "float", "weight_bits=4"); later entries win
    synthesis     how calibration data is made
    levers        what hybrid may use where a target is known: "auto" is all that makes sense there, "none" granularity alone, a tuple
                  those named: "per_tensor", "shift", "accumulate16", "shared_residual"
    requantize    "float", or "fixed_point": a 64-bit product for every value, which is how TVM itself requantizes
    """

    weight_bits: int = 8
    average_bits: float | None = None
    most_divergence: float | None = None
    activation_bits: int = 8
    eight_bit_share: float = 0.05
    scheme: Scheme = "hybrid"
    nonuniform: bool = False
    codebook_error: Literal["weight", "output"] = "weight"
    codebook_channels: int | None = None
    effort: Literal["instant", "best"] = "instant"
    budget: float = 0.02
    range_method: RangeMethod = "mse"
    weight_range: WeightRange = "auto"
    equalization: Equalization = "auto"
    rounding: Rounding = "auto"
    augment: bool = True
    bias_correction: BiasCorrection = "auto"
    seed: int = 0
    overrides: Mapping[str, LayerOverride | str] = field(default_factory=dict)
    synthesis: SynthesisConfig = SynthesisConfig()
    levers: Literal["auto", "none"] | tuple[str, ...] = "auto"
    requantize: Literal["float", "fixed_point"] = "float"

    def __post_init__(self) -> None:
        whole = _whole(self.weight_bits)
        _require(whole and self.weight_bits in (3, *BITS), f"weight_bits is {self.weight_bits!r}, expected one of {(3, *BITS)}")
        _require(
            _whole(self.activation_bits) and self.activation_bits in BITS,
            f"activation_bits is {self.activation_bits!r}, expected one of {BITS}",
        )
        share = self.eight_bit_share
        _require(_number(share) and 0 <= share <= 1, f"eight_bit_share is {share!r}, expected a number from 0 to 1, such as 0.05")
        _require(self.scheme in SCHEMES, f"scheme is {self.scheme!r}, expected one of {SCHEMES}")
        _require(isinstance(self.nonuniform, bool), f"nonuniform is {self.nonuniform!r}, expected True or False")
        least = self.codebook_error
        _require(least in ("weight", "output"), f"codebook_error is {least!r}, expected weight or output")
        shared = self.codebook_channels
        fits = shared is None or (_whole(shared) and shared >= 1)
        _require(fits, f"codebook_channels is {shared!r}, expected a whole number of at least 1")
        few = "codebooks are of 3, 4 or 6 bits; use weight_bits=4"
        _require(not self.nonuniform or self.low, f"nonuniform=True with weight_bits=8, and {few}")
        self._check_mixed()
        check_effort(self.effort)
        _require(_number(self.budget) and self.budget >= 0, f"budget is {self.budget!r}, expected a fraction of at least 0, such as 0.02")
        for name, choices in _CHOICES.items():
            value = getattr(self, name)
            _require(value in choices, f"{name} is {value!r}, expected {', '.join(choices[:-1])} or {choices[-1]}")
        _require(isinstance(self.augment, bool), f"augment is {self.augment!r}, expected True or False")
        _require(
            not (self.bias_correction == "analytic" and self.rounding in ("adaround", "reconstruct")),
            f"rounding {self.rounding!r} learns biases, which 'analytic' would replace; use bias_correction 'auto', or rounding 'squant'",
        )
        check_seed(self.seed)
        named = self.levers in ("auto", "none") or (isinstance(self.levers, (tuple, list)) and set(self.levers) <= set(LEVERS))
        _require(named, f"levers is {self.levers!r}, expected 'auto', 'none', or some of {LEVERS}")
        if not isinstance(self.levers, str):
            object.__setattr__(self, "levers", tuple(lever for lever in LEVERS if lever in self.levers))
        _require(self.requantize in ARITHMETICS, f"requantize is {self.requantize!r}, expected one of {ARITHMETICS}")
        _require(isinstance(self.synthesis, SynthesisConfig), f"synthesis is {self.synthesis!r}, expected a SynthesisConfig")
        _require(isinstance(self.overrides, Mapping), f"overrides is {self.overrides!r}, expected layer name -> LayerOverride or its text")
        for key, value in self.overrides.items():
            fits = isinstance(key, str) and isinstance(value, (LayerOverride, str))
            _require(fits, f"override {key!r} is {value!r}, expected layer name -> LayerOverride or its text such as 'per_channel'")
        parsed = {k: LayerOverride.parse(v) if isinstance(v, str) else v for k, v in self.overrides.items()}
        object.__setattr__(self, "overrides", parsed)

    def _check_mixed(self) -> None:
        average, most = self.average_bits, self.most_divergence
        _require(average is None or (_number(average) and 3 <= average <= 8), f"average_bits is {average!r}, expected a number from 3 to 8")
        positive = most is None or (_number(most) and most > 0)
        _require(positive, f"most_divergence is {most!r}, expected a positive number of nats, such as 0.05")
        _require(average is None or most is None, "average_bits and most_divergence are both given, expected one of them")
        both = f"weight_bits={self.weight_bits} with average_bits or most_divergence, by which bits differ; give one of them"
        _require(not self.mixed or self.weight_bits == 8, both)

    @property
    def mixed(self) -> bool:
        """Whether layers have different bits."""
        return self.average_bits is not None or self.most_divergence is not None

    @property
    def low(self) -> bool:
        """Whether weights have fewer than 8 bits, or may have."""
        return self.mixed or self.weight_bits < 8

    def replace(self, **changes: object) -> QuantConfig:
        """This configuration with some fields changed."""
        return replace(self, **changes)  # type: ignore[arg-type]
