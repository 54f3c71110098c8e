"""TensorQuant: how an activation is stored."""

from __future__ import annotations

from dataclasses import dataclass

from tvm_rsq.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorQuant:
    """Quantization of one activation.   real = scale * (q - zero_point),   0 <= zero_point <= 2^bits - 1."""

    scale: float
    zero_point: int
    bits: int = 8

    def __post_init__(self) -> None:
        if not (self.scale > 0 and 0 <= self.zero_point < 2**self.bits):
            raise ConfigError(f"scale {self.scale} and zero point {self.zero_point} do not describe {self.bits}-bit values")

    @property
    def low(self) -> float:
        """The smallest real value that is represented exactly."""
        return -self.scale * self.zero_point

    @property
    def high(self) -> float:
        """The largest real value that is represented exactly."""
        return self.scale * (2**self.bits - 1 - self.zero_point)
