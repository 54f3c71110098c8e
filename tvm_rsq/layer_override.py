"""LayerOverride: the user's word on single layers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from tvm_rsq.config_checks import require
from tvm_rsq.targets.workload import Accumulate16, RequantizeArithmetic

BITS = (4, 6, 8)
WEIGHT_BITS = (3, 4, 6, 7, 8)  # of single layers: sums of two products of 7-bit weights fit int16, whatever the weights
LAYER_SCHEMES = ("per_tensor", "per_channel", "float")
REQUANTIZE = ("float", "shift", "fixed_point")
ACCUMULATE16 = (0, 1, 2, 4, 32, 64)
CODEBOOK_BITS = (3, 4, 6)  # 8, 16 and 64 entries, which registers hold
GRIDS = ("uniform", "codebook")

LayerScheme = Literal["per_tensor", "per_channel", "float"]

_ALLOWED: Mapping[str, tuple[str | int, ...]] = {
    "scheme": LAYER_SCHEMES, "weight_bits": WEIGHT_BITS, "activation_bits": BITS, "requantize": REQUANTIZE, "accumulate16": ACCUMULATE16,
    "grid": GRIDS,
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerOverride:
    """The user's word on some layers; None leaves a decision to the configuration.

    scheme           "per_tensor", "per_channel", or "float" (the layer is not quantized)
    weight_bits      3, 4, 6, 7 or 8
    grid             of its weights: "uniform", or "codebook" with 3, 4 or 6 bits, which a layer in float may have, too: the file holds
                     codes of its weights then, and its arithmetic stays what it is
    activation_bits  4, 6 or 8: of the layer's output
    requantize       "float", "fixed_point", or "shift": the weight's scale is raised until effective multipliers are powers of two
    accumulate16     0; 1, 2 or 4 (x86), 32 or 64 (aarch64): the weights are changed until sums of products fit int16, see sum_groups
    """

    scheme: LayerScheme | None = None
    weight_bits: int | None = None
    activation_bits: int | None = None
    requantize: RequantizeArithmetic | None = None
    accumulate16: Accumulate16 | None = None
    grid: Literal["uniform", "codebook"] | None = None

    def __post_init__(self) -> None:
        for name, allowed in _ALLOWED.items():
            value = getattr(self, name)
            fits = value is None or (type(value) is type(allowed[0]) and value in allowed)
            require(fits, f"override {name} is {value!r}, expected one of {allowed}")
        granted = self.requantize not in (None, "float") or self.accumulate16 or self.grid == "uniform"
        require(not (self.scheme == "float" and granted), "an override leaves a layer in float and says how its integers are computed")
        if self.grid == "codebook":
            bits = self.weight_bits
            require(bits in (None, *CODEBOOK_BITS), f"an override asks for a codebook of {bits} bits, expected 3, 4, 6, or grid=uniform")
            require(not self.accumulate16, "an override asks for a codebook and for accumulate16, which exclude each other")

    @classmethod
    def parse(cls, text: str) -> LayerOverride:
        """"per_channel", "float", "weight_bits=4", "requantize=shift" or several joined by commas, as the command line takes them."""
        found: dict[str, str | int] = {}
        for part in text.split(","):
            key, _, value = part.strip().rpartition("=")
            key = key or "scheme"
            require(key in _ALLOWED, f"override {text!r} sets {key!r}, expected {', '.join(_ALLOWED)}")
            numeric = isinstance(_ALLOWED[key][0], int)
            require(not numeric or value.isdigit(), f"override {text!r} sets {key} to {value!r}, expected one of {_ALLOWED[key]}")
            found[key] = int(value) if numeric else value
        return cls(**found)  # type: ignore[arg-type]

    def filled_by(self, before: LayerOverride) -> LayerOverride:
        """This override, and what `before` says where this one is silent."""
        found = {name: getattr(before if getattr(self, name) is None else self, name) for name in _ALLOWED}
        if found["grid"] == "codebook" and self.grid is None and (self.accumulate16 or self.weight_bits in (7, 8)):
            found["grid"] = None  # taken back by what has no codebook
        if self.grid == "codebook" and self.accumulate16 is None:
            found["accumulate16"] = None
        if self.scheme == "float":  # takes back what was said of its integers
            found |= {"requantize": None, "accumulate16": None, "grid": self.grid}
        return LayerOverride(**found)
