"""What a line of each file of records has to look like; the values of one that does are taken as they are.   ValueError: it does not."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

_MEANING = {"us": "a time in microseconds", "cost": "a number of what the task measures"}


def cost_name(key: Mapping[str, Any]) -> str:
    """What a line calls the cost of a task: "us" where it is a time, in microseconds; "cost" where the task names another measure."""
    return "cost" if "measure" in key else "us"


def timing(value: Any) -> dict[str, Any]:
    """A line of a file of times, or of other costs."""
    name = _cost_name_of(value)
    expected = f'{{"task": {{...}}, "choice": {{...}} or null, "{name}": {_MEANING[name]}}}'
    return _record(value, expected, task=_is_key, choice=_is_choice, **{name: _is_cost})


def decision(value: Any) -> dict[str, Any]:
    """A line of best.jsonl."""
    name = _cost_name_of(value)
    expected = f'{{"task": {{...}}, "choice": {{...}}, "{name}": and "untuned_{name}": {_MEANING[name]}, "measured": a number of choices}}'
    return _record(value, expected, task=_is_key, choice=_is_knobs, measured=_is_count, **{name: _is_cost, f"untuned_{name}": _is_cost})


def workload(value: Any) -> list[str]:
    """A line of MetaSchedule's file of workloads."""
    return _sequence(value, '["hash", "module"]', _is_text, _is_text)


def trial(workloads: int) -> Any:
    """-> what reads a line of MetaSchedule's file of measurements, beside a file of so many workloads. TVM itself crashes on others."""
    expected = f"[workload below {workloads}, [trace, [seconds], {{target}}, [arguments]]], as tvm-rsq tune writes it"

    def parse(value: Any) -> list[Any]:
        index, record = _sequence(value, expected, lambda i: _is_count(i) and i < workloads, lambda r: isinstance(r, list))
        _sequence(record, expected, _is_list, lambda s: _is_list(s) and len(s) == 1 and _is_cost(s[0]), _is_key, _is_list)
        return [index, record]

    return parse


def _record(value: Any, expected: str, **fields: Any) -> dict[str, Any]:
    if not (isinstance(value, dict) and all(name in value and fits(value[name]) for name, fits in fields.items())):
        raise ValueError(f"expected {expected}")
    return value


def _sequence(value: Any, expected: str, *fields: Any) -> list[Any]:
    if not (isinstance(value, list) and len(value) == len(fields) and all(fits(item) for fits, item in zip(fields, value, strict=True))):
        raise ValueError(f"expected {expected}")
    return value


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_list(value: Any) -> bool:
    return isinstance(value, list)


def _is_key(value: Any) -> bool:
    return isinstance(value, dict)


def _is_knobs(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(knob, (int, str)) for knob in value.values())


def _is_choice(value: Any) -> bool:
    return value is None or _is_knobs(value)


def _cost_name_of(value: Any) -> str:
    return cost_name(value["task"]) if isinstance(value, dict) and _is_key(value.get("task")) else "us"


def _is_cost(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) and value > 0


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
