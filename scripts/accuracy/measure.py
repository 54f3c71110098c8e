"""One row: calibration set -> build -> its answers on the evaluated images, against FP32's."""

from __future__ import annotations

import functools
import math
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from scripts.accuracy.builds import build
from scripts.accuracy.calibrations import Calibrations, Made
from scripts.accuracy.case import Case
from scripts.accuracy.methods import METHODS
from scripts.accuracy.peak_memory import peak_bytes, restart_peak
from scripts.accuracy.row import Evaluated, Row
from scripts.accuracy.subject import Subject, evaluated_on, subject
from scripts.peers.build import PeerError
from scripts.peers.machine import machine_facts
from tvm_rsq.errors import ConfigError, UnsupportedError
from tvm_rsq.fidelity import compare, in_batches
from tvm_rsq.torch_device import torch_device

_ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """photos, samples: see `subject.subject`;  work_dir: kept calibration sets;  calibrations_from: folders with more of them"""

    work_dir: Path
    photos: Path | None = None
    samples: int | None = None
    calibrations_from: Sequence[Path] = ()

    def subject(self, name: str) -> Subject:
        return subject(name, self.photos, self.samples)

    def evaluated_on(self, name: str) -> Evaluated:
        return evaluated_on(name, self.photos, self.samples)

    def calibration(self, name: str, source: str, effort: str, seed: int) -> Made:
        kept = Calibrations(folder=self.work_dir / "calibrations", elsewhere=self.calibrations_from, cpu=_made_on())
        return kept.of(self.subject(name), source, effort, seed)


def measure(case: Case, settings: Settings) -> Row:
    """A combination that does not exist becomes a row that says why. FetchError and all that is not expected are raised."""
    judged = settings.subject(case.network)
    facts = {"case": case, "evaluated": judged.evaluated, "threads": torch.get_num_threads(), "cpu": _cpu(), "commit": commit()}
    restart_peak()
    start = time.perf_counter()
    try:
        made = settings.calibration(case.network, case.source, METHODS[case.method].effort, case.seed)
        built = build(case, judged.network, made.samples, settings.work_dir)
    except (ConfigError, UnsupportedError, PeerError) as error:
        return Row(**facts, unsupported=str(error))
    answers = in_batches(built.run, (judged.inputs,), built.batch)
    found = compare(judged.reference, answers, source=judged.evaluated.labelled, labels=judged.labels)
    plan = built.plan
    return Row(
        **facts, images=len(made.samples), calibration=made.digest,
        synthesis_s=made.seconds, synthesis_cpu=made.cpu, quantization_s=built.quantization_s,
        top1_fp32=found.top1_fp32, top1=found.top1_quantized, agreement=None if math.isnan(found.agreement) else found.agreement,
        kl=found.kl, evaluated_as=built.evaluated_as,
        float_layers=None if plan is None else sum(layer.scheme == "float" for layer in plan.layers),
        float_operators=None if plan is None else len(plan.float_islands),
        notes=() if plan is None else plan.notes, wall_s=time.perf_counter() - start, peak_bytes=max(peak_bytes(), made.peak_bytes or 0),
    )  # fmt: skip


def prepare_calibration(name: str, source: str, effort: str, seed: int, settings: Settings) -> None:
    """Make a set that rows will want; where it cannot be, they will say why."""
    try:
        settings.calibration(name, source, effort, seed)
    except (ConfigError, UnsupportedError):
        return


@functools.cache
def commit() -> str:
    """Of the checkout, "+" behind it where files differ from it; "" without git."""
    try:
        found = subprocess.run(["git", "describe", "--always", "--dirty=+"], cwd=_ROOT, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    return found.stdout.strip()


@functools.cache
def _cpu() -> str:
    return machine_facts(())["cpu"]


def _made_on() -> str:
    device = torch_device()
    return f"{_cpu()}, {torch.cuda.get_device_name(device)}" if device.type == "cuda" else _cpu()
