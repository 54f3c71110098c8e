"""How the report and the command line write numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence

MISSING = "–"


def size(count: float | None) -> str:
    """Bytes in decimal units: 512 B, 3.5 kB, 14.0 MB."""
    return MISSING if count is None else _scaled(count, (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)), " B")


def quantity(count: float | None) -> str:
    """A count such as multiply-accumulates: 940, 1.2 k, 118 M, 4.1 G."""
    return MISSING if not count else _scaled(count, (("G", 1e9), ("M", 1e6), ("k", 1e3)), "")


def duration(time_us: float | None) -> str:
    """Microseconds as the unit that fits: 8.42 µs, 512 µs, 1.24 ms, 3.1 s."""
    if time_us is None:
        return MISSING
    for unit, factor in (("s", 1e6), ("ms", 1e3)):
        if abs(time_us) >= factor:
            return f"{_three_digits(time_us / factor)} {unit}"
    return f"{_three_digits(time_us)} µs"


def cost(value: float | None, measure: str = "time") -> str:
    """What a kernel costs, by its measure: 33.5 µs, 1.24 M instructions, 512 k modelled cycles."""
    figure = cost_figure(value, measure)
    return figure if measure == "time" or value is None else f"{figure} {measure.replace('-', ' ')}"


def cost_figure(value: float | None, measure: str = "time") -> str:
    """The same without the name of what is counted."""
    return duration(value) if measure == "time" or value is None else quantity(value)


def nats(value: float | None) -> str:
    """A divergence with two significant digits: 0.012, 3.4e-05, 0."""
    if value is None:
        return MISSING
    return "0" if value == 0 else f"{value:.2g}"


def percent(fraction: float | None, digits: int = 1) -> str:
    """0.974 -> "97.4 %"."""
    return MISSING if fraction is None or math.isnan(fraction) else f"{100 * fraction:.{digits}f} %"


def ratio(value: float | None) -> str:
    """2.814 -> "2.81×"."""
    return MISSING if value is None or not math.isfinite(value) else f"{value:.2f}×" if value < 10 else f"{value:.1f}×"


def scales(values: Sequence[float]) -> str:
    """One scale, or the range of many: "0.0123", "0.0011 … 0.034"."""
    if not values:
        return MISSING
    low, high = min(values), max(values)
    return f"{low:.3g}" if low == high else f"{low:.2g} … {high:.2g}"


def _scaled(count: float, units: Sequence[tuple[str, float]], plain: str) -> str:
    for unit, factor in units:
        if abs(count) >= factor:
            return f"{_three_digits(count / factor)} {unit}"
    return f"{count:.0f}{plain}"


def _three_digits(value: float) -> str:
    if abs(value) >= 99.95:
        return f"{value:.0f}"
    return f"{value:.1f}" if abs(value) >= 9.995 else f"{value:.2f}"
