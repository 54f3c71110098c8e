"""Latencies and kernel profiles for the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import TYPE_CHECKING

from rich.table import Table

from tvm_rsq.cli.show import table
from tvm_rsq.report import formats

if TYPE_CHECKING:
    from tvm_rsq.report.data import LatencyRow, LayerTime


def latency_table(rows: Sequence[LatencyRow], baseline: str) -> Table:
    """One line a build, compared with the one called `baseline`."""
    from tvm_rsq.report.summary import quantile

    base = next(median(row.times_us) for row in rows if row.build == baseline)
    return table(
        ("build", "median", "5 %", "95 %", "fastest", f"vs {baseline}", "file", "threads"),
        (
            (
                row.build, formats.duration(median(row.times_us)), formats.duration(quantile(row.times_us, 0.05)),
                formats.duration(quantile(row.times_us, 0.95)), formats.duration(min(row.times_us)),
                formats.ratio(base / median(row.times_us)), formats.size(row.artifact_bytes or None), str(row.threads),
            )
            for row in rows
        ),
    )  # fmt: skip


def profile_table(entries: Sequence[LayerTime], peak_gmacs: float | None) -> Table:
    """One line a kernel call, and the total.   peak_gmacs: of all threads together; None leaves the fractions out."""
    total, macs = sum(entry.time_us for entry in entries), sum(entry.macs for entry in entries)
    made = table(
        ("layer", "kernel", "time", "share", "GMAC/s", "of peak"),
        (_figures(entry.layer, entry.kernel, entry.time_us, total, entry.macs, peak_gmacs) for entry in entries),
        left=2,
        title="\nkernels of the first build",
    )
    made.add_section()
    made.add_row(*_figures("total", f"{len(entries)} calls", total, total, macs, peak_gmacs))
    return made


def gmacs(macs: int, time_us: float) -> float | None:
    """1e9 multiply-accumulates a second; None where there are none, or no time."""
    return macs / time_us / 1e3 if macs and time_us > 0 else None


def is_effective(kernel: str) -> bool:
    """Whether a kernel multiplies less often than its multiply-accumulates are counted, so that a speed is an effective one."""
    return kernel.startswith("winograd")


def _figures(layer: str, kernel: str, time_us: float, total: float, macs: int, peak: float | None) -> tuple[str, ...]:
    speed = gmacs(macs, time_us)
    return (
        layer, kernel, formats.duration(time_us), formats.percent(time_us / (total or 1.0)),
        formats.MISSING if speed is None else f"{speed:.3g}" + (" effective" if is_effective(kernel) else ""),
        formats.percent(None if speed is None or peak is None else speed / peak),
    )  # fmt: skip
