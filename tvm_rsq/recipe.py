"""What a configuration leaves open, decided: which method does what.

                 W8                  below 8 bits
weight range     min-max             mse
equalization     activations         outlying              only on images made from batch-norm statistics, or real ones
rounding         squant              squant                effort "best": reconstruct, where weights or activations are below 8 bits
bias correction  from the data       from the data         not where the data is noise, nor behind adaround and reconstruct; analytic on
                                                           source "statistics"
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tvm_rsq.config import QuantConfig
from tvm_rsq.errors import ConfigError

NOISE = ("gaussian", "uniform")
LEARNED = ("adaround", "reconstruct")  # roundings that learn biases along with them


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """The fields of QuantConfig of these names, none of them "auto"."""

    weight_range: Literal["min_max", "mse"]
    equalization: Literal["none", "activations", "outlying", "weights"]
    rounding: Literal["nearest", "squant", "feedback", "adaround", "reconstruct"]
    bias_correction: Literal["none", "empirical", "analytic"]


def recipe(config: QuantConfig, source: str, batch_norms: bool = True) -> Recipe:
    """source: of the calibration set; batch_norms: whether the network has any"""
    analytic = source == "statistics" and batch_norms
    low, noise = config.low, is_noise(source, batch_norms)
    rounding = config.rounding
    if rounding == "auto":
        learns = config.effort == "best" and source != "statistics" and (low or config.activation_bits < 8)
        rounding = "reconstruct" if learns and config.bias_correction != "analytic" else "squant"
    if source == "statistics":
        _refuse_what_needs_images(config)
    weight_range, equalization, correction = config.weight_range, config.equalization, config.bias_correction
    if weight_range == "auto":
        weight_range = "mse" if low else "min_max"
    if equalization == "auto":
        equalization = "none" if noise else "outlying" if low else "activations"
    if correction == "auto":  # biases were learned: a correction behind that took a point of top-1
        correction = "none" if noise or rounding in LEARNED else "analytic" if analytic else "empirical"
    return Recipe(weight_range=weight_range, equalization=equalization, rounding=rounding, bias_correction=correction)


def _refuse_what_needs_images(config: QuantConfig) -> None:
    for name, needs in (("rounding", ("feedback", *LEARNED)), ("bias_correction", ("empirical",))):
        if (value := getattr(config, name)) in needs:
            raise ConfigError(
                f'{name} is {value!r}, which needs images of the network, and source "statistics" has drawn ones; use effort "best", or '
                "give a calibration set"
            )


def is_noise(source: str, batch_norms: bool) -> bool:
    """Whether a calibration set of this source knows nothing of the network."""
    return source in NOISE or (source == "statistics" and not batch_norms)
