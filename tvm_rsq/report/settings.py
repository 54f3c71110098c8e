"""What builds were made with, as flat lists of facts, and the facts in which they differ."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tvm_rsq.report.data import ReportData
from tvm_rsq.report.formats import MISSING

_OUTCOMES = ("notes", "calibration_notes", "frontier")  # of the plan's provenance, found and not set
_FACT_OF_SETTING = {"range_method": "activation ranges", "calibration_source": "calibration", "calibration_samples": "calibration"}
"""Settings of the plan that a fact of the report says in other words."""
_NAMES = {"target": "kernels timed on", "measure": "kernels compared by"}  # what is too short to be understood alone


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One setting of every build, in their order.   differs: of each, whether it is another than the first quantized build's"""

    name: str
    values: tuple[str, ...]
    differs: tuple[bool, ...]


def flat(record: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """{"a": {"b": 1}} -> {"a.b": "1"}, for a list of facts; empty values are left out."""
    found: dict[str, str] = {}
    for key, value in record.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{key}.")
        elif value not in (None, "", [], ()):
            found[f"{prefix}{key}"] = value if isinstance(value, str) else json.dumps(value, default=str)
    return found


def compare_settings(reports: Sequence[ReportData | None]) -> tuple[tuple[Setting, ...], tuple[Setting, ...]]:
    """The settings in which quantized builds differ, and those in which all are alike.   reports: of each build, None of an FP32 one"""
    found = [{} if report is None else _compared(report) for report in reports]
    quantized = [settings for settings, report in zip(found, reports, strict=True) if report is not None]
    differing: list[Setting] = []
    alike: list[Setting] = []
    for name in dict.fromkeys(name for settings in found for name in settings):
        values = tuple(settings.get(name, MISSING) for settings in found)
        first = quantized[0].get(name, MISSING)
        setting = Setting(
            name=name, values=values,
            differs=tuple(report is not None and value != first for value, report in zip(values, reports, strict=True)),
        )  # fmt: skip
        (differing if any(setting.differs) else alike).append(setting)
    return tuple(differing), tuple(alike)


def build_settings(report: ReportData) -> dict[str, str]:
    """All that a build was made with, the report's facts first: what the plan says too is said once, in the report's words."""
    plan = {
        name: value
        for name, value in report.plan.provenance.items()
        if name not in _OUTCOMES and not {name, _FACT_OF_SETTING.get(name, name)} & report.facts.keys()
    }
    return {**report.facts, **{_NAMES.get(name, name.replace("_", " ")): value for name, value in flat(plan).items()}}


def _compared(report: ReportData) -> dict[str, str]:
    return {name: value for name, value in build_settings(report).items() if name not in ("library", "command")}
