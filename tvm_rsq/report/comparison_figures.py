"""The figures that builds are compared by: of each a row, with one value for every build, derived from their reports."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from tvm_rsq.report import formats, summary
from tvm_rsq.report.comparison import Build
from tvm_rsq.report.data import DeviceRow, Fidelity, LatencyRow, ReportData
from tvm_rsq.report.devices import EMULATED

Values = Sequence[float | None]
_Read = TypeVar("_Read")


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One build's value.

    value       None where it was not measured
    to_first    over the first build's
    of_longest  over the largest of the row, 0 to 1
    best        whether none is better and some are worse
    """

    value: float | None
    text: str
    to_first: float | None
    of_longest: float
    best: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class FigureRow:
    """note: what the reader is to know of it; headline: whether it is drawn above the table"""

    title: str
    note: str
    figures: tuple[Figure, ...]
    headline: bool


def figure_rows(builds: Sequence[Build]) -> tuple[FigureRow, ...]:
    """Key figures first; only rows in which some build has a value."""
    closeness = _closeness(builds)
    rows = (
        _row(
            "weights", _each(builds, lambda report: report.weight_bytes_after or None), formats.size, better=min, note=_before(builds),
            headline=True,
        ),
        _median_row(builds),
        *_device_rows(builds),
        *closeness,
        _row(
            "divergence spent, summed over layers", _each(builds, _spent), _nats, better=min, note="each layer quantized alone",
            headline=not closeness,
        ),
        _row("mean bits of a weight", _each(builds, lambda report: summary.mean_bits(report.plan.layers)), "{:.3g}".format, better=min),
        _row("file", [float(build.file_bytes) for build in builds], formats.size, better=None, note="library, plan, report", headline=True),
        _row("against its own FP32 build", _each(builds, _speed_up), _as_fast, better=None, note="measured in turns"),
        _row("kernel calls together", _each(builds, _profiled), formats.duration, better=None, note="profiled one by one"),
    )  # fmt: skip
    return tuple(row for row in rows if any(figure.value is not None for figure in row.figures))


def _row(
    title: str, values: Values, write: Callable[[float], str], *, better: Callable[[Sequence[float]], float] | None, note: str = "",
    headline: bool = False,
) -> FigureRow:  # fmt: skip
    values = [None if value is None or math.isnan(value) else value for value in values]  # the agreement of a network without classes
    known = [value for value in values if value is not None]
    longest = max(filter(math.isfinite, known), default=0.0) or 1.0
    best = better(known) if better and len(set(known)) > 1 else None
    figures = tuple(
        Figure(
            value=value, text=formats.MISSING if value is None else write(value),
            to_first=value / values[0] if i and value is not None and values[0] and math.isfinite(value + values[0]) else None,
            of_longest=0.0 if value is None else min(value / longest, 1.0), best=best is not None and value == best,
        )
        for i, value in enumerate(values)
    )  # fmt: skip
    return FigureRow(title=title, note=note, figures=figures, headline=headline)


def _each(builds: Sequence[Build], read: Callable[[ReportData], _Read | None]) -> list[_Read | None]:
    return [None if build.report is None else read(build.report) for build in builds]


def _median_row(builds: Sequence[Build]) -> FigureRow:
    """The fastest is named only where all ran in turns, as a machine has its slow moments, and where it is clear which one that is."""
    rows = [build.latency for build in builds]
    timed = [row for row in rows if row]
    sessions = {build.measured.turns for build, row in zip(builds, rows, strict=True) if row}
    in_turns = len(sessions) == 1 and "" not in sessions
    clear = in_turns and len(timed) == len(builds) and _is_clear(timed)
    doubt = "" if clear else ", too close to call" if len(timed) == len(builds) else ", not all measured"
    how = f"in turns{doubt}" if in_turns else "each measured apart"
    threads = sorted({row.threads for row in timed})
    beside = {row for build in builds if in_turns for row in build.measured.latencies[1:]}  # one row of one session, or none
    parts = (
        f"median, {' or '.join(map(str, threads))} thread{'s' if threads != [1] else ''}", how if len(timed) > 1 else "",
        *(f"FP32 {formats.duration(summary.quantile(row.times_us, 0.5))}" for row in beside),
    )  # fmt: skip
    note = "; ".join(filter(None, parts))
    medians = [summary.quantile(row.times_us, 0.5) if row else None for row in rows]
    return _row("latency", medians, formats.duration, better=min if clear else None, note=note, headline=True)


def _device_rows(builds: Sequence[Build]) -> list[FigureRow]:
    """Of every board and measure. Times may be of different days, so that none is named the fastest; counts have a least."""
    found: dict[tuple[str, str], dict[int, DeviceRow]] = {}
    for i, build in enumerate(builds):
        for row in build.measured.devices:
            found.setdefault((row.device, row.measure), {})[i] = row
    rows = []
    for (device, measure), of_build in found.items():
        values = [of_build[i].cost if i in of_build else None for i in range(len(builds))]
        note = "median, by the board's own clock" if measure == "time" else f"{EMULATED}, {measure.replace('-', ' ')}"
        rows.append(_row(f"on {device}", values, _costs(measure), better=None if measure == "time" else min, note=note))
    return rows


def _is_clear(rows: Sequence[LatencyRow]) -> bool:
    """Whether the middle half of one build's times lies below that of all others."""
    first, *others = sorted(rows, key=lambda row: summary.quantile(row.times_us, 0.5))
    return all(summary.quantile(first.times_us, 0.75) < summary.quantile(other.times_us, 0.25) for other in others)


def _closeness(builds: Sequence[Build]) -> list[FigureRow]:
    """KL, equal answers and top-1 of every set of inputs; sets are told by source and size."""
    entries = [entry for build in builds for entry in build.fidelity]
    rows: list[FigureRow] = []
    for source, samples in dict.fromkeys((entry.source, entry.samples) for entry in entries):
        found = [_fidelity(build, source, samples) for build in builds]
        note, top1 = f"{samples} inputs, {source}", [None if f is None else f.top1_quantized for f in found]
        rows += [
            _row("divergence from FP32", [None if f is None else f.kl for f in found], _nats, better=min, note=note, headline=not rows),
            _row("same answer as FP32", [None if f is None else f.agreement for f in found], formats.percent, better=max, note=note),
            _row("top-1", top1, formats.percent, better=max, note=_top1_note(found, note)),
        ]
    return rows


def _fidelity(build: Build, source: str, samples: int) -> Fidelity | None:
    return next((entry for entry in build.fidelity if (entry.source, entry.samples) == (source, samples)), None)


def _top1_note(found: Sequence[Fidelity | None], note: str) -> str:
    of_float = {entry.top1_fp32 for entry in found if entry and entry.top1_fp32 is not None}
    return f"{note}; FP32 {formats.percent(of_float.pop())}" if len(of_float) == 1 else note


def _before(builds: Sequence[Build]) -> str:
    before = {build.report.weight_bytes_before for build in builds if build.report and build.report.weight_bytes_before}
    return f"FP32 {formats.size(before.pop())}" if len(before) == 1 else ""


def _spent(report: ReportData) -> float | None:
    found = [kl for kl in map(summary.chosen_kl, report.plan.layers) if kl is not None]
    return math.fsum(found) if found else None


def _speed_up(report: ReportData) -> float | None:
    speed = summary.speed(report)
    return None if speed is None else speed.ratio


def _profiled(report: ReportData) -> float | None:
    return math.fsum(entry.time_us for entry in report.layer_times) or None


def _costs(measure: str) -> Callable[[float], str]:
    return lambda value: formats.cost_figure(value, measure)


def _as_fast(ratio: float) -> str:
    return f"{formats.ratio(ratio)} as fast"


def _nats(value: float) -> str:
    return f"{formats.nats(value)} nats"
