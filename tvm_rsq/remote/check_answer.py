"""Whether a board's answer is right. A wrong one has no latency."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_CLOSE = 1e-3  # of the largest value: what sums of float32 in another order, or another exponential, may differ by


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """bit_exact: equal to the reference in every bit; wrong: what is wrong with it, None where it is right"""

    bit_exact: bool
    wrong: str | None = None


def check_answer(found: Sequence[np.ndarray], reference: Sequence[np.ndarray], *, exact: bool) -> Answer:
    """Compare outputs.   exact: they have to be equal bit for bit, and not only close"""
    if [part.shape for part in found] != [part.shape for part in reference]:
        return Answer(bit_exact=False, wrong=f"outputs {[p.shape for p in found]}, expected {[p.shape for p in reference]}")
    pairs = list(zip(found, reference, strict=True))
    different = sum(int((_bits(a) != _bits(b)).sum()) for a, b in pairs)
    if not different:
        return Answer(bit_exact=True)
    worst = max(_distance(a, b) for a, b in pairs)
    if not exact and worst <= _CLOSE:
        return Answer(bit_exact=False)
    total = sum(part.size for part in reference)
    return Answer(bit_exact=False, wrong=f"{different} of {total} output values are wrong, by up to {worst:.2g} of the largest")


def _bits(values: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(values).view(f"u{values.dtype.itemsize}")


def _distance(found: np.ndarray, reference: np.ndarray) -> float:
    """The largest difference, of the largest value; infinite where one is no number."""
    difference = np.abs(found.astype(np.float64) - reference.astype(np.float64)).max(initial=0.0)
    return float(difference / max(np.abs(reference).max(initial=0.0), 1e-30)) if np.isfinite(difference) else np.inf
