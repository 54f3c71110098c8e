"""Which ways to compute a layer are worth a look on a target: those that its levers allow and that save time there.

A candidate that saves less than 2 % over one at least as accurate is dropped, before its divergence is measured: that much is noise. "At
least as accurate" is known beforehand: per channel over per tensor, free multipliers over powers of two, shorter blocks over longer ones.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Hashable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from tvm_rsq.config import LEVERS
from tvm_rsq.layer_facts import Candidate, LayerFacts
from tvm_rsq.layer_override import LayerOverride
from tvm_rsq.targets.levers import Levers
from tvm_rsq.targets.workload import Conv2DWorkload
from tvm_rsq.tensor_quant import TensorQuant

Worthwhile = Generator[Sequence[Candidate], Sequence[float] | None, dict[Candidate, float]]
Key = TypeVar("Key", bound=Hashable)

WORTHWHILE = 0.98


def usable_levers(wanted: str | Sequence[str], levers: Levers) -> frozenset[str]:
    """What of `QuantConfig.levers` the target offers."""
    if wanted == "none":
        return frozenset()
    offered = {"per_tensor"} | {name for name in ("shift", "shared_residual", "accumulate16") if getattr(levers, name)}
    return frozenset(offered & set(LEVERS if wanted == "auto" else wanted))


def layer_candidates(
    layer: LayerFacts, tensors: Mapping[str, TensorQuant], use: frozenset[str], levers: Levers, base: Candidate, said: LayerOverride
) -> list[Candidate]:
    """The candidates that the layer's shape, its tensors and the user permit, `base` first."""
    schemes = [base.scheme] + ["per_tensor"] * ("per_tensor" in use and said.scheme is None)
    arithmetics = [base.requantize] + ["shift"] * ("shift" in use and said.requantize is None)
    blocks = [base.accumulate16] + list(levers.accumulate16 if "accumulate16" in use and said.accumulate16 is None else ())
    found = dict.fromkeys(
        replace(base, scheme=scheme, requantize=requantize, accumulate16=d)
        for d in blocks for requantize in arithmetics for scheme in schemes
    )  # fmt: skip
    return [candidate for candidate in found if candidate == base or layer.allows(candidate, tensors)]


def workload_of(w: Conv2DWorkload, candidate: Candidate, *, shared: bool) -> Conv2DWorkload:
    """The layer's workload under a candidate.   w: under the baseline; shared: whether its residual has the output's scale"""
    e = replace(w.epilogue, per_channel=candidate.scheme == "per_channel", requantize=candidate.requantize)
    if e.residual and e.out != "float32":
        # Any zero point that is not the output's: which one it is does not matter to the time.
        e = replace(e, shared_residual=shared, residual_zero_point=128 if shared or e.requantize == "fixed_point" else 0)
    return replace(w, accumulate16=candidate.accumulate16, epilogue=e)


def worthwhile(candidates: Sequence[Candidate]) -> Worthwhile:
    """Asks for the times of some candidates, some more, and so on; in the end candidate -> its time, those that save nothing over a more
    accurate one left out. The first is always kept.

    Shorter lists cost fewer measurements: first the block lengths, then, at the fastest of them, the other levers, then the combinations.
    """
    base = candidates[0]
    times: dict[Candidate, float] = {}

    def measured(wanted: Sequence[Candidate]) -> Generator[Sequence[Candidate], Sequence[float] | None, None]:
        missing = [c for c in wanted if c not in times]
        if missing:
            times.update(zip(missing, (yield missing) or (), strict=True))

    yield from measured([c for c in candidates if (c.scheme, c.requantize) == (base.scheme, base.requantize)])
    kept = _saving(times)
    fastest = min(kept, key=lambda c: times[c])
    others = [c for c in candidates if c.accumulate16 == fastest.accumulate16]
    yield from measured(others)
    forms = {(c.scheme, c.requantize) for c in _saving({c: times[c] for c in others})}
    lengths = {c.accumulate16 for c in kept}
    yield from measured([c for c in candidates if (c.scheme, c.requantize) in forms and c.accumulate16 in lengths])
    saving = _saving(times)
    return {c: times[c] for c in candidates if c == base or c in saving}


def in_step(
    searches: Mapping[Key, Worthwhile], ask: Callable[[Mapping[Key, Sequence[Candidate]]], Mapping[Key, Sequence[float]]]
) -> dict[Key, dict[Candidate, float]]:
    """What each search comes to, all of them asking together: what they want at once can be made ready at once."""
    found: dict[Key, dict[Candidate, float]] = {}
    answers: dict[Key, Sequence[float] | None] = dict.fromkeys(searches)
    while answers:
        wanted: dict[Key, Sequence[Candidate]] = {}
        for key, answer in answers.items():
            try:
                wanted[key] = searches[key].send(answer)
            except StopIteration as end:
                found[key] = end.value
        answers = dict(ask(wanted)) if wanted else {}
    return found


def _saving(times: Mapping[Candidate, float]) -> set[Candidate]:
    return {c for c in times if not any(o != c and _as_accurate(o, c) and times[c] > WORTHWHILE * times[o] for o in times)}


def _as_accurate(a: Candidate, b: Candidate) -> bool:
    scheme = a.scheme == "per_channel" or b.scheme == "per_tensor"
    arithmetic = a.requantize != "shift" or b.requantize == "shift"
    return scheme and arithmetic and a.accumulate16 <= b.accumulate16
