"""Checks that every configuration makes of its fields."""

from __future__ import annotations

import math

from tvm_rsq.errors import ConfigError


def require(ok: bool, message: str) -> None:
    if not ok:
        raise ConfigError(message)


def whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def number(value: object) -> bool:
    return (whole(value) or isinstance(value, float)) and math.isfinite(value)  # type: ignore[arg-type]
