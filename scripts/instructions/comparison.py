"""What became of the counts of a baseline."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from scripts.instructions.row import BaselineError, Row


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """(now, before) of what changed by more than the tolerance, the most changed first; `new` is in no baseline, `missing` only there."""

    grown: tuple[tuple[Row, Row], ...]
    shrunk: tuple[tuple[Row, Row], ...]
    new: tuple[Row, ...]
    missing: tuple[Row, ...]


def compare(rows: Sequence[Row], baseline: Iterable[Row], tolerance: float) -> Comparison:
    """tolerance  largest change of instructions a unit of work that is none, as a fraction. More stack accesses in a loop are growth.

    BaselineError: the two have nothing in common.
    """
    before = {(row.target, row.name): row for row in baseline}
    pairs = [(row, before.pop((row.target, row.name), None)) for row in rows]
    known = [(row, old) for row, old in pairs if old]
    if not known:
        targets = ", ".join(sorted({target for target, _name in before}))
        raise BaselineError(f"the baseline holds rows of {targets or 'nothing'} and none that was counted; write another with --json")
    ordered = sorted(known, key=lambda pair: -abs(change(*pair)))
    return Comparison(
        grown=tuple((row, old) for row, old in ordered if change(row, old) > tolerance or (row.stack or 0) > (old.stack or 0)),
        shrunk=tuple((row, old) for row, old in ordered if change(row, old) < -tolerance),
        new=tuple(row for row, old in pairs if old is None),
        missing=tuple(before.values()),
    )


def change(row: Row, before: Row) -> float:
    """Of instructions a unit of work, as a fraction: 0.1 is 10 % more."""
    return row.per_work / before.per_work - 1
