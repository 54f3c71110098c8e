"""Row: what was measured of one case, as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from scripts.accuracy.case import Case

SCHEMA = 1
INTEGER_LIBRARY, FAKE_QUANT = "integer library", "fake-quant"  # of ours; a rival's rows name the runtime


class SchemaError(Exception):
    """A file of another version; the message is one line for the user."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluated:
    """Which images answers were compared on.

    labelled  name of the set, samples how many of it, from the first
    weights   digest of the network's layers and weights
    """

    labelled: str
    samples: int
    weights: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """None is what was not measured or does not exist.

    images            of the calibration set, whose digest is `calibration`
    synthesis_s       to make it, on synthesis_cpu; quantization_s everything from there to the plan and its parameters
    top1, top1_fp32   0..1; None without labels
    agreement, kl     with FP32, over the same samples
    evaluated_as      "integer library", "fake-quant", or the runtime of a rival
    float_layers      convolutions and dense layers that the plan leaves in float; float_operators: what else runs between in float
    peak_bytes        the most memory the process held for this row, synthesis and evaluation included
    threads           of every part; cpu, commit: where and by which version of the code
    unsupported       why there is no such row, in a line; "" where there is one
    """

    case: Case
    evaluated: Evaluated
    images: int | None = None
    calibration: str | None = None
    synthesis_s: float | None = None
    synthesis_cpu: str = ""
    quantization_s: float | None = None
    top1_fp32: float | None = None
    top1: float | None = None
    agreement: float | None = None
    kl: float | None = None
    evaluated_as: str | None = None
    float_layers: int | None = None
    float_operators: int | None = None
    notes: tuple[str, ...] = ()
    wall_s: float | None = None
    peak_bytes: int | None = None
    threads: int | None = None
    cpu: str = ""
    commit: str = ""
    unsupported: str = ""

    def record(self) -> dict[str, Any]:
        """Flat: the fields of the case and of what it was evaluated on among the others."""
        own = {name: getattr(self, name) for name in _OWN}
        shared = {name: getattr(self.evaluated, name) for name in _EVALUATED}
        return {**self.case.record(), **shared, **own}

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Row:
        """What `record` gave. KeyError: a field is missing."""
        own = {name: record[name] for name in _OWN} | {"notes": tuple(record["notes"])}
        shared = Evaluated(**{name: record[name] for name in _EVALUATED})
        return cls(case=Case.of(dict(record)), evaluated=shared, **own)


def document(facts: Mapping[str, Any], rows: Sequence[Row]) -> dict[str, Any]:
    """The whole result as JSON values; facts: command, date, machine."""
    return {"schema": SCHEMA, **facts, "rows": [row.record() for row in rows]}


def read_document(text: str, name: str) -> tuple[dict[str, Any], tuple[Row, ...]]:
    """(facts, rows) of what `document` made.   SchemaError: it is not such a text; name: what to call it."""
    try:
        found = json.loads(text)
        if found["schema"] != SCHEMA:
            raise SchemaError(f"{name} has schema {found['schema']}, this version reads {SCHEMA}; measure again")
        rows = tuple(Row.of(record) for record in found["rows"])
        return {key: value for key, value in found.items() if key not in ("schema", "rows")}, rows
    except (ValueError, KeyError, TypeError) as error:
        raise SchemaError(f"{name} is not a result of scripts/reproduce_accuracy ({error!r}); make one with --json") from error


_OWN = tuple(field.name for field in fields(Row) if field.name not in ("case", "evaluated"))
_EVALUATED = tuple(field.name for field in fields(Evaluated))
