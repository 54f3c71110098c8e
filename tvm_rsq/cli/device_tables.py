"""What was measured on devices, for the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from tvm_rsq.cli.show import table
from tvm_rsq.report import formats

if TYPE_CHECKING:
    from tvm_rsq.report.data import DeviceRow


def device_table(rows: Sequence[DeviceRow]) -> Table:
    """One line for each device and build: latency or what was counted, against FP32 and per-channel on the same device."""
    from tvm_rsq.report.devices import gain
    from tvm_rsq.report.summary import quantile

    timed = any(row.latency_us for row in rows)
    counted = any(row.instructions is not None for row in rows)

    def cells(row: DeviceRow) -> tuple[str | Text, ...]:
        times = row.latency_us
        spread = [formats.duration(quantile(times, q) if times else None) for q in (0.5, 0.05, 0.95)]
        counts = [formats.quantity(value) if value else formats.MISSING for value in (row.instructions, row.modelled_cycles)]
        return (
            row.device, row.target, row.build, _answer(row), *(spread if timed else ()), *(counts if counted else ()),
            formats.ratio(gain(row, "FP32", rows)), formats.ratio(gain(row, "per-channel", rows)), formats.size(row.artifact_bytes),
            formats.nats(row.divergence), str(row.threads or formats.MISSING),
        )  # fmt: skip

    columns = (
        "device", "target", "build", "answer", *(("median", "5 %", "95 %") if timed else ()),
        *(("instructions", "modelled cycles") if counted else ()), "vs FP32", "vs per-channel", "library", "KL", "threads",
    )  # fmt: skip
    return table(columns, map(cells, rows), left=4)


def _answer(row: DeviceRow) -> Text:
    if row.error is not None:
        return Text("failed" if row.bit_exact is None else "wrong" if row.bit_exact is False else "cut short", "red")
    return Text("bit-exact" if row.bit_exact else "close")
