"""Calibration sets, kept once made, with the seconds that they took beside them.

    <folder>/<network>/<source>-<effort>-<seed>.npz     the set
    <folder>/<network>/<source>-<effort>-<seed>.json    {"schema", "weights" (digest of the network), "recipe", "seconds", "cpu", ...}
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

import torch

import tvm_rsq
from scripts.accuracy.peak_memory import peak_bytes, restart_peak
from scripts.accuracy.subject import Subject
from scripts.peers.file_digest import array_digest, short
from tvm_rsq.atomic_write import atomic_write
from tvm_rsq.calibration_set import CalibrationSet
from tvm_rsq.config import Source, SynthesisConfig
from tvm_rsq.errors import CalibrationError

SCHEMA = 1
# source -> raised whenever its images become others, so that kept ones are made again; 1 where there is none
RECIPES = {"statistics": 3, "retro-synthesis": 2, "zeroq": 2, "generator": 2}
STOPPED = "stopped by the user"  # how a note of the library begins
SOURCES = (*(name for name in get_args(Source) if name != "auto"), "real")  # "auto" is one of the others
_FACTS = ("seconds", "threads", "cpu", "peak_bytes")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Made:
    """samples: of any batch, without the network's hash; the rest: what making them took, and where; None if unknown"""

    samples: CalibrationSet
    seconds: float | None
    threads: int | None = None
    cpu: str = ""
    peak_bytes: int | None = None

    @property
    def digest(self) -> str:
        return short(*(array_digest(array) for array in self.samples.inputs))


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibrations:
    """folder: of the sets made here; elsewhere: folders of the same form that are looked into first; cpu: this machine, and
    the device of torch where it has one"""

    folder: Path
    elsewhere: Sequence[Path] = ()
    cpu: str = ""

    def of(self, subject: Subject, source: str, effort: str, seed: int) -> Made:
        """The set of these names, made if there is none.

        source: of SOURCES; "real" ignores effort and seed
        CalibrationError: one that was made for another network. What tvm_rsq.synthesize raises, and FetchError without real images.
        """
        if source == "real":
            return Made(samples=CalibrationSet(inputs=(subject.real(),)), seconds=0.0)
        name = Path(subject.name) / f"{source}-{effort}-{seed}.npz"
        for folder in (*self.elsewhere, self.folder):
            if (folder / name).is_file() and (kept := _read(folder / name, subject.evaluated.weights, RECIPES.get(source, 1))):
                return kept
        made = self._make(subject, source, effort, seed)
        _write(self.folder / name, made, subject.evaluated.weights)
        return made

    def _make(self, subject: Subject, source: str, effort: str, seed: int) -> Made:
        restart_peak()
        network, start = subject.network, time.perf_counter()
        found = tvm_rsq.synthesize(
            network.model, SynthesisConfig(source=source), example_inputs=network.example_inputs, seed=seed, effort=effort, batch=1
        )
        seconds = time.perf_counter() - start
        if any(note.startswith(STOPPED) for note in found.notes):
            raise KeyboardInterrupt  # what the library makes of one is of use to its user; here rows would rest on it
        samples = replace(found, network_hash="")
        return Made(samples=samples, seconds=seconds, threads=torch.get_num_threads(), cpu=self.cpu, peak_bytes=peak_bytes())


def _read(path: Path, weights: str, recipe: int) -> Made | None:
    """None: the set was made by another recipe."""
    samples = replace(CalibrationSet.load(path), network_hash="")
    beside = path.with_suffix(".json")
    if not beside.is_file():
        return Made(samples=samples, seconds=None)
    facts = json.loads(beside.read_text(encoding="utf-8"))
    if facts["schema"] != SCHEMA:
        raise CalibrationError(f"{beside} has schema {facts['schema']}, this version reads {SCHEMA}; remove it and its set")
    if facts.get("recipe", 1) != recipe:
        return None
    if facts["weights"] != weights:
        raise CalibrationError(f"{path} was made for other weights ({facts['weights']}) than these ({weights}); remove it")
    return Made(samples=samples, **{name: facts[name] for name in _FACTS})


def _write(path: Path, made: Made, weights: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    recipe = RECIPES.get(made.samples.source, 1)
    facts = {"schema": SCHEMA, "weights": weights, "recipe": recipe, **{name: getattr(made, name) for name in _FACTS}}
    path.unlink(missing_ok=True)  # one of an older recipe is not to stand beside the facts of the new one
    with atomic_write(path.with_suffix(".json")) as partial:  # first: a set without it would have no seconds
        partial.write_text(json.dumps(facts) + "\n", encoding="utf-8")
    made.samples.save(path)
