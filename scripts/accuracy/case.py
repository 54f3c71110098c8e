"""Case: what one row of the table is about."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, fields
from typing import Any, NamedTuple


class Bits(NamedTuple):
    """Of weights and of activations.   str: "W8A8" """

    weights: int
    activations: int

    @classmethod
    def parse(cls, text: str) -> Bits:
        """ValueError: not of that form."""
        found = re.fullmatch(r"W(\d+)A(\d+)", text.upper())
        if not found:
            raise ValueError(f"got {text!r}, expected weight and activation bits such as W8A8 or W4A8")
        return cls(int(found[1]), int(found[2]))

    def __str__(self) -> str:
        return f"W{self.weights}A{self.activations}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A network, how it is quantized and from what.

    method  of methods.METHODS, source of calibrations.SOURCES
    seed    of the images and of everything random in the method
    """

    network: str
    weight_bits: int
    activation_bits: int
    method: str
    scheme: str
    source: str
    seed: int

    @property
    def bits(self) -> Bits:
        return Bits(self.weight_bits, self.activation_bits)

    def __str__(self) -> str:
        return f"{self.network} {self.bits} {self.method}, {self.scheme}, {self.source}, seed {self.seed}"

    def record(self) -> dict[str, Any]:
        """As JSON, flat."""
        return asdict(self)

    @classmethod
    def of(cls, record: dict[str, Any]) -> Case:
        """From the fields of that name; others are ignored. KeyError: one is missing."""
        return cls(**{field.name: record[field.name] for field in fields(cls)})
