"""Row: the times of one case with its arrays in the cache or not, beside those of a plain copy."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import Any, Literal

from scripts.device_run.case import Case


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """Microseconds of one launch, measured in turns.

    kernel  of the case
    copy    of the driver's copy, from and to the GPU's memory, of as many bytes as the kernel writes
    sets    of arrays that the launches went through
    """

    cache: Literal["cold", "warm"]
    sets: int
    kernel: tuple[float, ...]
    copy: tuple[float, ...]


def row(case: Case, wrong_bytes: int, times: Times | None, copy_gb_per_s: float | None) -> dict[str, Any]:
    """JSON values; those of a case that was not timed, and of a wrong one, are null where they need a time.

    copy_gb_per_s  read and written, of a copy much larger than the cache
    """
    made: dict[str, Any] = {
        "name": case.name, "kernel": case.kernel, "layer": case.layer, "bits": case.bits, "grid": case.grid, "block": case.block,
        "bytes_in": case.bytes_in, "bytes_out": case.bytes_out, "exact": wrong_bytes == 0, "wrong_bytes": wrong_bytes,
    }  # fmt: skip
    if times is None:
        return {**made, **dict.fromkeys(("cache", "sets", "time_us", "gb_per_s", "of_copy", "same_size_copy_us", "time_over_copy"))}
    speed = (case.bytes_in + case.bytes_out) / median(times.kernel) / 1e3
    return {
        **made, "cache": times.cache, "sets": times.sets, "time_us": _rounded(times.kernel), "gb_per_s": speed,
        "of_copy": None if copy_gb_per_s is None else speed / copy_gb_per_s, "same_size_copy_us": _rounded(times.copy),
        "time_over_copy": median(times.kernel) / median(times.copy),
    }  # fmt: skip


def _rounded(times: tuple[float, ...]) -> list[float]:
    """A graph's time, which is told to half a microsecond, over some hundred launches."""
    return [round(time, 4) for time in times]
