"""One line of the result: medians and the ratios that follow from them. Everything here is derived from raw times, nothing is measured."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from scripts.turns import paired_ratio
from tvm_rsq.benchmark import is_unstable
from tvm_rsq.report.data import Fidelity

SCHEMA = 1
PEERS = ("onnxruntime", "openvino")
# A build that answers otherwise than its own FP32 more often, or with logits that point elsewhere, is called wrong.
AGREEMENT, COSINE = 0.75, 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One build of one network, at one batch and one number of threads.

    times_us   numpy in, numpy out;  bound_us  without these copies
    answer     against the same maker's FP32; None for FP32 itself
    """

    times_us: tuple[float, ...]
    bound_us: tuple[float, ...] = ()
    answer: Fidelity | None = None

    @property
    def is_wrong(self) -> bool:
        a = self.answer
        return a is not None and not (a.cosine >= COSINE and (a.agreement >= AGREEMENT or math.isnan(a.agreement)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A network, a batch, a number of threads, and all builds of it.

    builds      name -> Measured: "hybrid" (tuned where there is a tuning folder), "hybrid untuned", "per_channel", "fixed_point", "fp32",
                "onnxruntime fp32", "onnxruntime int8 ...", and the same of openvino; what could not be built is not there
    macs        multiply-accumulates of the whole batch
    peak_gmacs  of one core
    """

    model: str
    batch: int
    threads: int
    target: str
    macs: int
    peak_gmacs: float
    builds: Mapping[str, Measured] = field(default_factory=dict)

    def us(self, name: str) -> float | None:
        """Median microseconds of a build; None without it."""
        found = self.builds.get(name)
        return None if found is None else median(found.times_us)

    def right_us(self, name: str) -> float | None:
        """The same, None too where the build gives a wrong answer: such a time is no ground for a ratio."""
        found = self.builds.get(name)
        return None if found is None or found.is_wrong else self.us(name)

    def best_int8(self, peer: str) -> str | None:
        """The peer's fastest integer build that gives the right answer; the fastest of all (and wrong) where none does."""
        names = [name for name in self.builds if name.startswith(f"{peer} int8")]
        return min(names, key=lambda name: (self.builds[name].is_wrong, self.us(name)), default=None)

    def best_peer(self) -> str | None:
        """The faster of the peers' best integer builds."""
        return min(filter(None, map(self.best_int8, PEERS)), key=self.us, default=None)

    def best_fp32(self) -> str | None:
        """The faster of the peers' FP32 builds."""
        return min((name for peer in PEERS if (name := f"{peer} fp32") in self.builds), key=self.us, default=None)

    def paired(self) -> dict[str, float | None]:
        """The ratios of `record` again, of times that were taken within the same turn: what to read on a machine that others use."""
        baselines = {"best_peer": self.best_peer(), "best_peer_fp32": self.best_fp32()}
        baselines |= {name: name for name in ("per_channel", "fixed_point")}
        return {key: self._paired(name, wrong_counts=key == "best_peer") for key, name in baselines.items()}

    def _paired(self, name: str | None, *, wrong_counts: bool) -> float | None:
        if name not in self.builds or self.builds["hybrid"].is_wrong or (self.builds[name].is_wrong and not wrong_counts):
            return None
        return paired_ratio(self.builds["hybrid"].times_us, self.builds[name].times_us)

    @property
    def peers_us(self) -> dict[str, float | None]:
        return {peer: self.us(name) if (name := self.best_int8(peer)) else None for peer in PEERS}

    @property
    def fp32_us(self) -> dict[str, float | None]:
        return {"ours": self.us("fp32"), **{peer: self.us(f"{peer} fp32") for peer in PEERS}}

    @property
    def fraction_of_peak(self) -> float | None:
        ours = self.right_us("hybrid")
        return None if not ours else self.macs / (ours * 1e3) / (self.peak_gmacs * self.threads)

    @property
    def wrong(self) -> tuple[str, ...]:
        return tuple(name for name, found in self.builds.items() if found.is_wrong)

    @property
    def unstable(self) -> tuple[str, ...]:
        return tuple(name for name, found in self.builds.items() if is_unstable(found.times_us))

    def record(self) -> dict[str, Any]:
        """As JSON: medians and ratios under their fixed names; None was not measured, or is a ratio of ours with a wrong answer."""
        ours, right, answer = self.us("hybrid"), self.right_us("hybrid"), self.builds["hybrid"].answer
        peer, fp32 = self.best_peer(), self.best_fp32()
        untuned = self.us("hybrid untuned")
        return {
            "model": self.model, "batch": self.batch, "threads": self.threads,
            "ours_us": ours, "per_channel_us": self.us("per_channel"), "untuned_us": ours if untuned is None else untuned,
            "fp32_us": self.fp32_us, "peers_us": self.peers_us,
            "ratio_best_peer": ratio(right, peer and self.us(peer)),
            "ratio_best_peer_fp32": ratio(right, fp32 and self.us(fp32)),
            "ratio_hybrid_per_channel": ratio(right, self.right_us("per_channel")),
            "ratio_hybrid_fixed_point": ratio(right, self.right_us("fixed_point")),
            "fraction_of_peak": self.fraction_of_peak, "top1_agreement": None if answer is None else _known(answer.agreement),
            "target": self.target, "paired": self.paired(),
        }  # fmt: skip

    def raw(self) -> dict[str, Any]:
        """What `record` follows from."""
        return {
            "model": self.model, "batch": self.batch, "threads": self.threads, "macs": self.macs,
            "peers_int8": {peer: self.best_int8(peer) for peer in PEERS}, "wrong": self.wrong, "unstable": self.unstable,
            "builds": {name: _measured(found) for name, found in self.builds.items()},
        }  # fmt: skip


def ratio(time: float | None, baseline: float | None) -> float | None:
    """time / baseline: below 1 is faster than the baseline."""
    return None if time is None or not baseline else time / baseline


def document(machine: Mapping[str, Any], peak_gmacs: float, rows: Sequence[Row]) -> dict[str, Any]:
    """The whole result as JSON."""
    return {
        "schema": SCHEMA, "machine": dict(machine), "peak_gmacs": peak_gmacs,
        "rows": [row.record() for row in rows], "raw": [row.raw() for row in rows],
    }  # fmt: skip


def _measured(found: Measured) -> dict[str, Any]:
    return {"times_us": found.times_us, "bound_us": found.bound_us, "answer": None if found.answer is None else _answer(found.answer)}


def _answer(answer: Fidelity) -> dict[str, Any]:
    return {
        "samples": answer.samples, "source": answer.source, "cosine": _known(answer.cosine),
        "top1_agreement": _known(answer.agreement), "kl": _known(answer.kl),
    }  # fmt: skip


def _known(value: float) -> float | None:
    """None instead of NaN, which is no JSON."""
    return None if math.isnan(value) else value
