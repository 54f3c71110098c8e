"""Axes of the report's charts: data to SVG coordinates, and where the ticks go."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True, slots=True)
class Axis:
    """low..high of the data onto start..end of the drawing; values outside are drawn at the edge."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def at(self, value: float) -> float:
        """The coordinate of `value`, rounded to a tenth of a pixel."""
        low, high = self._warp(self.low), self._warp(self.high)
        share = 0.0 if high == low else (self._warp(min(max(value, self.low), self.high)) - low) / (high - low)
        return round(self.start + share * (self.end - self.start), 1)

    def _warp(self, value: float) -> float:
        return math.log10(value) if self.log else value

    def ticks(self) -> list[tuple[float, str]]:
        """(coordinate, label): whole decades on a log axis, round numbers on a linear one."""
        if self.log:
            first, last = math.ceil(math.log10(self.low) - 1e-9), math.floor(math.log10(self.high) + 1e-9)
            decades = max(1, (last - first) // 6)
            return [(self.at(10.0**e), "10" + str(e).translate(_SUPERSCRIPT)) for e in range(first, last + 1, decades)]
        step = _round_step((self.high - self.low) / 5)
        first = math.ceil(self.low / step - 1e-9)
        return [(self.at(k * step), f"{k * step:g}") for k in range(first, math.floor(self.high / step + 1e-9) + 1)]


def log_axis(values: Sequence[float], start: float, end: float, *, decades: int = 6) -> Axis | None:
    """An axis of whole decades around the positive values, at most `decades` below the largest; None: no positive value."""
    positive = [v for v in values if v > 0 and math.isfinite(v)]
    if not positive:
        return None
    top = math.ceil(math.log10(max(positive)) + 1e-9)
    bottom = max(math.floor(math.log10(min(positive)) - 1e-9), top - decades)
    return Axis(10.0**bottom, 10.0**top, start, end, log=True)


def linear_axis(low: float, high: float, start: float, end: float, *, margin: float = 0.04) -> Axis:
    """An axis over low..high with some air at both ends; a single value gets an axis around it."""
    if high == low:
        low, high = low - (abs(low) or 1.0) / 10, high + (abs(high) or 1.0) / 10
    air = margin * (high - low)
    return Axis(low - air, high + air, start, end)


def _round_step(rough: float) -> float:
    power = 10.0 ** math.floor(math.log10(rough))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))
