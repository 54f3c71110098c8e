"""Every experiment as a function of the number of cases, the seed, a folder for scratch and whom to tell, which answers a Tally."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

import tvm_rsq
from scripts.survival import hostile_artifacts, hostile_onnx, kills, same_again, soak, together
from scripts.survival.isolate import ANSWERED, REFUSED, isolated
from scripts.survival.onnx_networks import NETWORKS, SHAPE

Tell = Callable[[str], None]
_MAKING_S = 300.0
_TOLD_EVERY = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """A row of docs/reliability.md, but for what record.py adds."""

    tried: int
    survived: int
    figures: dict[str, str | int | float]
    about: str


def onnx(count: int, seed: int, folder: Path, tell: Tell) -> Tally:
    networks = {name: path.read_bytes() for name, path in _networks(folder, list(NETWORKS)).items()}
    return _cases(hostile_onnx.cases(networks, count, seed, folder / "cases"), tell, hostile_onnx.ABOUT)


def artifacts(count: int, seed: int, folder: Path, tell: Tell) -> Tally:
    inputs = (np.random.default_rng(0).standard_normal(SHAPE, np.float32),)
    network = _networks(folder, ["plain"])["plain"]

    def make() -> str:
        module = tvm_rsq.compile(network, config=tvm_rsq.QuantConfig(levers="none"))
        module.save(folder / "net.rsq")
        np.save(folder / "answer.npy", module.run(*inputs))
        return ""

    _made(make)
    subject = hostile_artifacts.subject(folder / "net.rsq", inputs, np.load(folder / "answer.npy", allow_pickle=False), folder)
    return _cases(hostile_artifacts.cases(subject, count, seed, folder / "cases"), tell, hostile_artifacts.ABOUT)


def kill(count: int, seed: int, folder: Path, tell: Tell) -> Tally:
    counted: Counter[str] = Counter()
    found = _checked(kills.kills(_networks(folder, ["plain"])["plain"], count, seed, folder, counted), tell, kills.ABOUT)
    return replace(found, figures={**counted, **found.figures})


def at_once(count: int, seed: int, folder: Path, tell: Tell) -> Tally:
    return _checked(together.rounds(_networks(folder, ["plain"])["plain"], count, folder), tell, together.ABOUT)


def determinism(count: int, seed: int, folder: Path, tell: Tell) -> Tally:
    networks = _networks(folder, ["plain", "branches", "real"])
    found = [each for number in range(count) for each in same_again.comparisons(networks, seed + number, folder)]
    return _checked(found, tell, same_again.ABOUT)


def long_soak(count: int, seed: int, folder: Path, tell: Tell) -> Tally:
    tried = survived = 0
    figures: dict[str, str | int | float] = {}
    for name, share in (("plain", 0.5), ("real", 0.5)):
        module = tvm_rsq.compile(_networks(folder, [name])[name], config=tvm_rsq.QuantConfig(levers="none"))
        wanted = int(count * share)
        right, grown = soak.soak(module, wanted, seed, lambda done, name=name: tell(f"{name} {done}"))
        tried, survived = tried + wanted + 1, survived + right + (grown < soak.MOST_GROWTH)
        figures |= {f"growth of resident memory, {name}, kB": grown // 1024, f"inferences, {name}": wanted}
    return Tally(tried=tried, survived=survived, figures={**figures, "threads at once": soak.THREADS}, about=soak.ABOUT)


def _networks(folder: Path, names: list[str]) -> dict[str, Path]:
    """The files, made in a process of its own: this one is forked, and is to have run nothing."""
    paths = {name: folder / f"{name}.onnx" for name in names}

    def make() -> str:
        for name, path in paths.items():
            path.write_bytes(NETWORKS[name]())
        return ""

    _made(make)
    return paths


def _made(make: Callable[[], str]) -> None:
    outcome = isolated(make, limit_s=_MAKING_S)
    if not outcome.well:
        raise RuntimeError(f"what is to be corrupted cannot be made: {outcome.said}")


def _cases(cases: Iterable[tuple[str, Callable[[], str]]], tell: Tell, about: str) -> Tally:
    ends: Counter[str] = Counter()
    answers: Counter[str] = Counter()
    slowest, largest = 0.0, 0
    for number, (what, action) in enumerate(cases, 1):
        outcome = isolated(action)
        ends[outcome.kind] += 1
        answers[outcome.said] += outcome.kind == ANSWERED
        slowest, largest = max(slowest, outcome.seconds), max(largest, outcome.peak)
        if not outcome.well:
            tell(f"{what}: {outcome.kind}: {outcome.said}")
        if number % _TOLD_EVERY == 0:
            tell(f"{number}: {dict(ends)}")
    figures: dict[str, str | int | float] = {"refused in one line": ends[REFUSED], "taken and right": ends[ANSWERED]}
    figures |= {f"of these {said}": times for said, times in answers.most_common() if times}
    figures |= {f"ended by {kind}": times for kind, times in ends.items() if kind not in (REFUSED, ANSWERED)}
    figures |= {"longest, seconds of the processor": slowest, "most memory, MB": largest // 10**6}
    return Tally(tried=ends.total(), survived=ends[REFUSED] + ends[ANSWERED], figures=figures, about=about)


def _checked(found: Iterable[tuple[str, str]], tell: Tell, about: str) -> Tally:
    kinds: Counter[str] = Counter()
    wrong: list[str] = []
    for what, reason in found:
        tell(f"{what}: {reason or 'well'}")
        kinds["tried"] += 1
        if reason:
            wrong.append(f"{what}: {reason}")
    figures: dict[str, str | int | float] = {f"finding {number}": each for number, each in enumerate(wrong, 1)}
    return Tally(tried=kinds["tried"], survived=kinds["tried"] - len(wrong), figures=figures, about=about)
