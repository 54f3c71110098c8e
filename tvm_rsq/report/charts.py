"""Geometry of the report's charts: ReportData to coordinates. How they look is in templates/charts.html.j2 and style.css."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tvm_rsq.layer_record import LayerPlan
from tvm_rsq.report.axes import Axis, linear_axis, log_axis
from tvm_rsq.report.data import Histogram, LatencyRow, LayerTime, ReportData
from tvm_rsq.report.summary import is_baseline, quantile

WIDTH, LEFT, RIGHT = 1080.0, 52.0, 12.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SensitivityPoint:
    """One layer: x, and y of KL per tensor and per channel (None: not measured)."""

    index: int
    x: float
    layer: LayerPlan
    y_per_tensor: float | None
    y_per_channel: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sensitivity:
    width: float
    height: float
    axis: Axis
    points: tuple[SensitivityPoint, ...]
    label_every: int


def sensitivity(layers: Sequence[LayerPlan], height: float = 300.0) -> Sensitivity | None:
    """KL_PT and KL_PC of each layer on a log axis; None where nothing was measured."""
    measured = [kl for layer in layers for kl in (layer.kl_per_tensor, layer.kl_per_channel) if kl is not None]
    axis = log_axis(measured, height - 34, 12)
    if axis is None:
        return None
    width = max(WIDTH, LEFT + RIGHT + 9 * len(layers))
    slot = (width - LEFT - RIGHT) / len(layers)

    def y(kl: float | None) -> float | None:
        return None if kl is None or math.isnan(kl) else axis.at(kl)

    points = tuple(
        SensitivityPoint(
            index=i + 1,
            x=round(LEFT + (i + 0.5) * slot, 1),
            layer=layer,
            y_per_tensor=y(layer.kl_per_tensor),
            y_per_channel=y(layer.kl_per_channel),
        )
        for i, layer in enumerate(layers)
    )
    label_every = 1 if slot >= 18 else 5 if slot >= 6 else 10
    return Sensitivity(width=width, height=height, axis=axis, points=points, label_every=label_every)


@dataclass(frozen=True, slots=True, kw_only=True)
class LossCurve:
    """term -> SVG path; last -> the term's final value."""

    width: float
    height: float
    x: Axis
    y: Axis
    paths: dict[str, str]
    last: dict[str, float]


def loss_curve(data: ReportData, height: float = 260.0) -> LossCurve | None:
    """Every finite loss term by step, logarithmic where the terms span more than a factor of 20; None: fewer than two steps."""
    steps = data.loss_curve
    terms = {k: [s.get(k, math.nan) for s in steps] for k in dict.fromkeys(k for s in steps for k in s) if k not in ("step", "batch")}
    terms = {k: v for k, v in terms.items() if any(math.isfinite(x) and x != 0 for x in v)}
    terms = dict(sorted(terms.items(), key=lambda term: term[0] not in ("total", "loss")))  # the sum first: it is drawn thickest
    finite = [v for values in terms.values() for v in values if math.isfinite(v)]
    if len(steps) < 2 or not finite:
        return None
    x = Axis(0, len(steps) - 1, LEFT, WIDTH - RIGHT)
    wide = min(finite) > 0 and max(finite) / min(finite) > 20
    y = log_axis(finite, height - 34, 10) if wide else None
    y = y or linear_axis(min(0.0, *finite), max(finite), height - 34, 10)
    return LossCurve(
        width=WIDTH, height=height, x=x, y=y,
        paths={k: _polyline((x.at(i), y.at(v)) for i, v in enumerate(values) if math.isfinite(v)) for k, values in terms.items()},
        last={k: next(v for v in reversed(values) if math.isfinite(v)) for k, values in terms.items()},
    )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class HistogramShape:
    """bars is a filled SVG path, levels a path of one tick per level under it."""

    width: float
    height: float
    bars: str
    levels: str
    level_count: int
    low: float
    high: float


def histogram(found: Histogram, width: float = 240.0, height: float = 84.0) -> HistogramShape:
    """Small multiple of one layer; bar heights go with the square root of the counts, so that tails are seen."""
    x = Axis(found.edges[0], found.edges[-1], 0, width)
    base = height - 12
    top = math.sqrt(max(found.counts)) or 1.0
    bars = "".join(
        f"M{x.at(a)} {base}V{base - (base - 2) * math.sqrt(count) / top:.1f}H{x.at(b)}V{base}Z"
        for count, a, b in zip(found.counts, found.edges[:-1], found.edges[1:], strict=True)
        if count
    )
    levels = "".join(f"M{x.at(v)} {base + 3}V{height - 1}" for v in found.levels)
    return HistogramShape(
        width=width, height=height, bars=bars, levels=levels, level_count=len(found.levels), low=found.edges[0], high=found.edges[-1]
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyStrip:
    """One build: its raw times as (x, y) dots, and x of the 5th, 25th, 50th, 75th and 95th percentile."""

    row: LatencyRow
    baseline: bool
    quantiles_us: tuple[float, ...]
    x: tuple[float, ...]
    dots: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    width: float
    row_height: float
    axis: Axis
    unit: str
    strips: tuple[LatencyStrip, ...]


def latency(rows: Sequence[LatencyRow], *, most_dots: int = 250) -> Latency | None:
    """Raw latencies of every build on one axis in milliseconds or microseconds; None: nothing was measured."""
    timed = [row for row in rows if row.times_us]
    if not timed:
        return None
    everything = [t for row in timed for t in row.times_us]
    factor, unit = (1000.0, "ms") if max(everything) >= 1000 else (1.0, "µs")
    # stray measurements would squeeze the rest into one pixel: they are drawn at the edge, and the table says the slowest
    high = 1.1 * max(quantile(row.times_us, 0.95) for row in timed)
    axis = linear_axis(0.0, high / factor, LEFT / 4, WIDTH - RIGHT, margin=0.02)
    jitter = random.Random(0)  # same page for the same data
    strips = []
    for row in timed:
        quantiles = tuple(quantile(row.times_us, q) for q in (0.05, 0.25, 0.5, 0.75, 0.95))
        stride = max(1, len(row.times_us) // most_dots)
        dots = tuple((axis.at(t / factor), round(jitter.uniform(-9, 9), 1)) for t in row.times_us[::stride])
        strips.append(
            LatencyStrip(
                row=row, baseline=is_baseline(row), quantiles_us=quantiles, x=tuple(axis.at(q / factor) for q in quantiles), dots=dots
            )
        )
    return Latency(width=WIDTH, row_height=62.0, axis=axis, unit=unit, strips=tuple(strips))


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeBar:
    """One kernel call: its share of the longest bar and of the whole, and its rate in GMAC/s (None: no MACs)."""

    entry: LayerTime
    scheme: str
    of_longest: float
    of_total: float
    gmac_per_s: float | None


def time_bars(data: ReportData) -> list[TimeBar]:
    """Measured kernel calls in execution order."""
    longest = max((entry.time_us for entry in data.layer_times), default=0.0) or 1.0
    total = sum(entry.time_us for entry in data.layer_times) or 1.0
    schemes = {layer.name: layer.scheme for layer in data.plan.layers}
    return [
        TimeBar(
            entry=entry,
            scheme=schemes.get(entry.layer, "other"),
            of_longest=entry.time_us / longest,
            of_total=entry.time_us / total,
            gmac_per_s=entry.macs / entry.time_us / 1e3 if entry.macs and entry.time_us > 0 else None,
        )
        for entry in data.layer_times
    ]


def _polyline(points: Iterator[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x} {y}" for x, y in points)
