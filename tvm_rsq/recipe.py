"""What a configuration leaves open, decided: which method does what.

                 W8                  below 8 bits
weight range     min-max             mse
equalization     activations         none                  only on images made from batch-norm statistics, or real ones
rounding         nearest             squant
bias correction  from the data       from the data         not where the data is noise
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tvm_rsq.config import BiasCorrection, Equalization, QuantConfig, Rounding, WeightRange

NOISE = ("gaussian", "uniform")


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """The fields of QuantConfig of these names, none of them "auto"."""

    weight_range: Literal["min_max", "mse"]
    equalization: Literal["none", "activations"]
    rounding: Literal["nearest", "squant", "feedback"]
    bias_correction: Literal["none", "empirical"]


def recipe(config: QuantConfig, source: str) -> Recipe:
    """source: of the calibration set"""
    low, noise = config.weight_bits < 8, source in NOISE
    weight_range: WeightRange = "mse" if low else "min_max"
    equalization: Equalization = "none" if low or noise else "activations"
    rounding: Rounding = "squant" if low else "nearest"
    correction: BiasCorrection = "none" if noise else "empirical"
    return Recipe(
        weight_range=_or(config.weight_range, weight_range), equalization=_or(config.equalization, equalization),
        rounding=_or(config.rounding, rounding), bias_correction=_or(config.bias_correction, correction),
    )  # fmt: skip


def _or(said: str, decided: str) -> str:  # type: ignore[return]
    return decided if said == "auto" else said
