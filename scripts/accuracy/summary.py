"""Rows of several seeds as one line: means, and how far the seeds are apart. Pure functions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import NamedTuple

from scripts.accuracy.case import Bits
from scripts.accuracy.row import Row


class Group(NamedTuple):
    """What rows of different seeds have in common."""

    network: str
    bits: Bits
    method: str
    scheme: str
    source: str
    labelled: str = ""
    samples: int = 0


class Mean(NamedTuple):
    """Over seeds.   spread: None of one, max - min of two, the standard deviation of more"""

    value: float
    spread: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """One line. None where no row has a value.

    top1, top1_fp32, drop  0..1;  drop = top1_fp32 - top1, of each seed
    peak_bytes             the most of all seeds
    elsewhere              images were made on another machine than the rows
    unsupported            why there are no rows
    """

    group: Group
    seeds: tuple[int, ...]
    top1_fp32: float | None = None
    top1: Mean | None = None
    drop: Mean | None = None
    agreement: Mean | None = None
    kl: Mean | None = None
    images: int | None = None
    synthesis_s: float | None = None
    quantization_s: float | None = None
    peak_bytes: int | None = None
    threads: tuple[int, ...] = ()
    evaluated_as: str | None = None
    float_layers: int | None = None
    float_operators: int | None = None
    elsewhere: bool = False
    notes: tuple[str, ...] = ()
    unsupported: str = ""

    @property
    def seconds(self) -> float | None:
        """From the network alone to the plan."""
        return None if self.synthesis_s is None or self.quantization_s is None else self.synthesis_s + self.quantization_s


def summarize(rows: Iterable[Row]) -> tuple[Summary, ...]:
    """One line for each group, in the order of its first row."""
    groups: dict[Group, list[Row]] = {}
    for row in rows:
        case, evaluated = row.case, row.evaluated
        key = Group(case.network, case.bits, case.method, case.scheme, case.source, evaluated.labelled, evaluated.samples)
        groups.setdefault(key, []).append(row)
    return tuple(_summary(group, found) for group, found in groups.items())


def mean(values: Sequence[float | None]) -> Mean | None:
    """Of those that are known; None without any."""
    known = [value for value in values if value is not None]
    if not known:
        return None
    spread = None if len(known) == 1 else max(known) - min(known) if len(known) == 2 else stdev(known)
    return Mean(fmean(known), spread)


def _summary(group: Group, rows: Sequence[Row]) -> Summary:
    done = [row for row in rows if not row.unsupported]
    if not done:
        return Summary(group=group, seeds=(), unsupported=rows[0].unsupported)
    return Summary(
        group=group, seeds=tuple(sorted(row.case.seed for row in done)), top1_fp32=done[0].top1_fp32,
        top1=mean([row.top1 for row in done]),
        drop=mean([None if row.top1 is None or row.top1_fp32 is None else row.top1_fp32 - row.top1 for row in done]),
        agreement=mean([row.agreement for row in done]), kl=mean([row.kl for row in done]), images=done[0].images,
        synthesis_s=_value(mean([row.synthesis_s for row in done])), quantization_s=_value(mean([row.quantization_s for row in done])),
        peak_bytes=max((row.peak_bytes for row in done if row.peak_bytes is not None), default=None),
        threads=tuple(sorted({row.threads for row in done if row.threads is not None})), evaluated_as=done[0].evaluated_as,
        float_layers=max((row.float_layers for row in done if row.float_layers is not None), default=None),
        float_operators=max((row.float_operators for row in done if row.float_operators is not None), default=None),
        elsewhere=any(row.synthesis_cpu not in ("", row.cpu) for row in done),
        notes=tuple(dict.fromkeys(note for row in done for note in row.notes)),
    )  # fmt: skip


def _value(found: Mean | None) -> float | None:
    return None if found is None else found.value
