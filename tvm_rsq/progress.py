"""Progress of long work, reported through a callback so that the library itself prints nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """One step of one stage.   0 <= done <= total.

    stage   "import", "synthesis", "calibration", "sensitivity", "lower", "build", "tune", ...
    detail  one short phrase for the user, such as "loss 1.23" or a layer's name
    """

    stage: str
    done: int
    total: int
    detail: str = ""


ProgressCallback = Callable[[Progress], None]


def silent(_event: Progress) -> None:
    """The callback that shows nothing."""
