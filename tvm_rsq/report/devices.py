"""Builds on several devices: derived numbers and the geometry of their chart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tvm_rsq.report.data import DeviceRow

EMULATED = "emulated: counted, not timed"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceBar:
    """of_longest: 0 to 1, of the longest bar of the device; None: nothing was measured"""

    row: DeviceRow
    of_longest: float | None
    versus_float: float | None
    versus_per_channel: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceGroup:
    """The builds of one device by one measure. Bars of two groups have no common scale: they may not even have a common unit."""

    device: str
    target: str
    measure: str
    bars: tuple[DeviceBar, ...]

    @property
    def emulated(self) -> bool:
        return self.measure != "time"


def device_groups(rows: Sequence[DeviceRow]) -> list[DeviceGroup]:
    """In the order of their first rows."""
    groups: dict[tuple[str, str, str], list[DeviceRow]] = {}
    for row in rows:
        groups.setdefault((row.device, row.target, row.measure), []).append(row)
    return [_group(*key, members) for key, members in groups.items()]


def gain(row: DeviceRow, build: str, rows: Sequence[DeviceRow]) -> float | None:
    """Cost of `build` on the same device over that of `row`: above 1, the row is faster. None: one of them was not measured."""
    same = (row.device, row.target, row.measure)
    base = next((other.cost for other in rows if other.build == build and (other.device, other.target, other.measure) == same), None)
    return base / row.cost if base and row.cost and row.build != build else None


def _group(device: str, target: str, measure: str, rows: Sequence[DeviceRow]) -> DeviceGroup:
    longest = max((row.cost or 0.0 for row in rows), default=0.0) or 1.0
    bars = tuple(
        DeviceBar(
            row=row, of_longest=None if row.cost is None else row.cost / longest, versus_float=gain(row, "FP32", rows),
            versus_per_channel=gain(row, "per-channel", rows),
        )
        for row in rows
    )  # fmt: skip
    return DeviceGroup(device=device, target=target, measure=measure, bars=bars)
