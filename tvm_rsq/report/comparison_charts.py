"""Geometry of the charts of a comparison. How they look is in templates/compare.html.j2 and compare.css."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tvm_rsq.report.axes import Axis, log_axis
from tvm_rsq.report.charts import LEFT, RIGHT, WIDTH
from tvm_rsq.report.comparison import ComparedLayer, LayerCell
from tvm_rsq.report.summary import stored_bits

_STRIP = 34.0  # height of one build
_BAR = 24.0
_FULL = 8  # bits of a bar of full height; float is drawn as high


@dataclass(frozen=True, slots=True, kw_only=True)
class StripBar:
    """One layer in one build."""

    cell: LayerCell
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Strips:
    """strips: one for each quantized build, absent layers left out; marks: x of the layers that differ; ticks: x and number"""

    width: float
    height: float
    strips: tuple[tuple[StripBar, ...], ...]
    baselines: tuple[float, ...]
    marks: tuple[float, ...]
    ticks: tuple[tuple[float, int], ...]


def strips(rows: Sequence[ComparedLayer]) -> Strips | None:
    """Scheme and bits of every layer, one strip for each build; None: no layers."""
    if not rows:
        return None
    width, slot, at = _columns(rows)
    bar = round(max(slot - (2 if slot >= 6 else 0.6), 0.8), 1)
    count = len(rows[0].cells)
    baselines = tuple(_STRIP * (i + 1) for i in range(count))
    drawn = tuple(
        tuple(
            StripBar(cell=row.cells[i], x=round(x - bar / 2, 1), y=round(baselines[i] - height, 1), width=bar, height=height)
            for row, x in zip(rows, at, strict=True)
            if (plan := row.cells[i].plan) is not None
            for height in (round(_BAR * min(stored_bits(plan), _FULL) / _FULL, 1),)
        )
        for i in range(count)
    )
    return Strips(
        width=width, height=_STRIP * count + 52, strips=drawn, baselines=baselines,
        marks=tuple(x for row, x in zip(rows, at, strict=True) if row.differs), ticks=_ticks(rows, at, slot),
    )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class CostPoint:
    """One layer: x of its middle, and of every build where its mark is, None where nothing was measured."""

    row: ComparedLayer
    x: float
    marks: tuple[tuple[float, float] | None, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Divergences:
    width: float
    height: float
    axis: Axis
    points: tuple[CostPoint, ...]
    ticks: tuple[tuple[float, int], ...]


def divergences(rows: Sequence[ComparedLayer], height: float = 300.0) -> Divergences | None:
    """What every layer costs in every build, on a log axis; None where nothing was measured, or in one build alone."""
    measured = [[cell.kl for cell in column if cell.kl is not None] for column in zip(*(row.cells for row in rows), strict=True)]
    axis = log_axis([kl for column in measured for kl in column], height - 34, 12)
    if axis is None or sum(map(bool, measured)) < 2:
        return None
    width, slot, at = _columns(rows)
    apart = min(5.0, slot / (len(measured) + 1))  # equal divergences are common, and their marks would hide each other
    offsets = [apart * (i - (len(measured) - 1) / 2) for i in range(len(measured))]
    points = tuple(
        CostPoint(
            row=row, x=x,
            marks=tuple(
                None if cell.kl is None or math.isnan(cell.kl) else (round(x + offset, 1), axis.at(cell.kl))
                for cell, offset in zip(row.cells, offsets, strict=True)
            ),
        )
        for row, x in zip(rows, at, strict=True)
    )  # fmt: skip
    return Divergences(width=width, height=height, axis=axis, points=points, ticks=_ticks(rows, at, slot))


def _columns(rows: Sequence[ComparedLayer]) -> tuple[float, float, list[float]]:
    """The width of the drawing, that of one layer, and every layer's middle."""
    width = max(WIDTH, LEFT + RIGHT + 9 * len(rows))
    slot = (width - LEFT - RIGHT) / len(rows)
    return width, slot, [round(LEFT + (i + 0.5) * slot, 1) for i in range(len(rows))]


def _ticks(rows: Sequence[ComparedLayer], at: Sequence[float], slot: float) -> tuple[tuple[float, int], ...]:
    every = 1 if slot >= 18 else 5
    return tuple((x, row.index) for row, x in zip(rows, at, strict=True) if row.index == 1 or row.index % every == 0)
