"""All rows of a table: those that are kept, and those that are measured now."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial

from scripts.accuracy.case import Case
from scripts.accuracy.jobs import run_all
from scripts.accuracy.measure import Settings, measure, prepare_calibration
from scripts.accuracy.methods import METHODS
from scripts.accuracy.row import Row
from scripts.accuracy.row_store import RowStore


def rows(wanted: Sequence[Case], settings: Settings, *, jobs: int = 1, redo: bool = False) -> tuple[Row, ...]:
    """In the order of `wanted`; those of an earlier run are not measured again, unless `redo`. Progress goes to stderr."""
    store = RowStore(settings.work_dir / "rows.jsonl")
    # Before the long work: a network or a folder that is not there should not cost hours.
    keys = {case: (case, settings.evaluated_on(case.network)) for case in wanted}
    if redo:
        store.drop(keys.values())
    left = [case for case in wanted if store.get(*keys[case]) is None]
    if jobs > 1:  # a set that two workers want would be made twice
        calibrations(left, settings, jobs=jobs)
    refused: dict[Case, Row] = {}
    if left:
        kept = f", {len(wanted) - len(left)} are kept from an earlier run" if len(left) < len(wanted) else ""
        print(f"{len(left)} rows to measure{kept}; each takes minutes where images are made or roundings learned", file=sys.stderr)
    for done, row in enumerate(run_all(partial(measure, settings=settings), [(case,) for case in left], jobs), start=1):
        print(f"{done} of {len(left)}  {row.case}: {_said(row)}", file=sys.stderr, flush=True)
        store.add(row)
        if row.unsupported:
            refused[row.case] = row
    return tuple(refused.get(case) or store.rows[keys[case]] for case in wanted)


def calibrations(wanted: Sequence[Case], settings: Settings, *, jobs: int = 1) -> None:
    """Make the calibration sets of these rows, those that are not there."""
    sets = dict.fromkeys((case.network, case.source, METHODS[case.method].effort, case.seed) for case in wanted if case.source != "real")
    for done, _ in enumerate(run_all(partial(prepare_calibration, settings=settings), sets, jobs), start=1):
        print(f"calibration sets: {done} of {len(sets)}", file=sys.stderr, flush=True)


def _said(row: Row) -> str:
    if row.unsupported:
        return f"no such row: {row.unsupported}"
    top1 = "" if row.top1 is None else f"top-1 {row.top1:.2%} (FP32 {row.top1_fp32:.2%}), "
    agreement = "" if row.agreement is None else f"agreement {row.agreement:.2%}, "
    return f"{top1}{agreement}KL {row.kl:.4f}, {row.wall_s:.0f} s"
