"""Claim: a sentence about the product, and the numbers that it stands or falls by."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from scripts.accuracy.case import Bits
from scripts.accuracy.summary import Mean, Summary
from scripts.accuracy.table import SYNTHETIC
from scripts.accuracy.traits import TRAITS, Traits

HOLDS, FAILS, UNKNOWN = "holds", "does not hold", "not measured"
W8A8, W6A6, W4A8, W4A4 = ALL_BITS = Bits(8, 8), Bits(6, 6), Bits(4, 8), Bits(4, 4)


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One number.   about: which network and bits; found: the numbers, in words; holds: None where they were not measured"""

    about: str
    found: str = "not measured"
    holds: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """text: a sentence; checks: one for every network that it is about; remarks: what else the rows say"""

    text: str
    checks: tuple[Check, ...]
    remarks: tuple[str, ...] = ()

    @property
    def verdict(self) -> str:
        known = [check.holds for check in self.checks if check.holds is not None]
        return UNKNOWN if not known else HOLDS if all(known) else FAILS

    @property
    def measured(self) -> int:
        return sum(check.holds is not None for check in self.checks)


class Lines:
    """Summaries by what they are of."""

    def __init__(self, summaries: Iterable[Summary]) -> None:
        self.all = tuple(summary for summary in summaries if not summary.unsupported)
        by_samples = sorted(self.all, key=lambda s: s.group.samples)  # of several sets of images, the largest counts
        self._found = {self._key(s.group.network, s.group.bits, s.group.method, s.group.scheme, s.group.source): s for s in by_samples}

    def get(self, network: str, bits: Bits, method: str, scheme: str = "per_channel", source: str = SYNTHETIC) -> Summary | None:
        return self._found.get(self._key(network, bits, method, scheme, source))

    @staticmethod
    def _key(*parts: object) -> tuple[object, ...]:
        return parts


def networks(wanted: Callable[[Traits], bool]) -> list[str]:
    """Names of those that are so."""
    return [name for name, traits in TRAITS.items() if wanted(traits)]


def at_least(ours: Mean, theirs: Mean) -> bool:
    """Whether ours is as good, or less so by no more than the seeds' own spread (the larger of the two)."""
    return ours.value >= theirs.value - max(ours.spread or 0.0, theirs.spread or 0.0)


def at_most(found: Mean, most: float) -> bool:
    """92.6 % - 92.2 % is 0.4 points, whatever binary fractions make of it."""
    return found.value <= most + 1e-9


def measure(found: Summary) -> Mean | None:
    """What a line is judged by: top-1, and agreement where there are no labels."""
    return found.top1 or found.agreement


def better(about: str, ours: Summary | None, theirs: Summary | None, who: str, *, by_agreement: bool = False) -> Check:
    """That ours is at least as good as theirs; who: what to call theirs."""
    if ours is None or theirs is None:
        return Check(about=about)
    a, b = (summary.agreement if by_agreement else measure(summary) for summary in (ours, theirs))
    if a is None or b is None:
        return Check(about=about)
    what = "agreement" if by_agreement or not ours.top1 else "top-1"
    return Check(about=about, found=f"{what} {percent(a)} against {percent(b)} of {who}", holds=at_least(a, b))


def drop_within(about: str, found: Summary | None, most: float) -> Check:
    """That top-1 is at most `most` (0..1) below FP32."""
    if found is None or found.drop is None:
        return Check(about=about)
    return Check(about=about, found=f"{points(found.drop)} below FP32 (at most {100 * most:.1f})", holds=at_most(found.drop, most))


def percent(found: Mean) -> str:
    """92.35 % ± 0.12"""
    return f"{100 * found.value:.2f} %{_spread(found)}"


def points(found: Mean) -> str:
    """0.35 ± 0.12"""
    return f"{100 * found.value:.2f}{_spread(found)}"


def _spread(found: Mean) -> str:
    return "" if found.spread is None else f" ± {100 * found.spread:.2f}"
