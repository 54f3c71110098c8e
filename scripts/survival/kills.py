"""`kill -9` at random moments of `tvm-rsq compile` and `tvm-rsq tune`."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from scripts.survival.command import Place, alive_in
from tvm_rsq.artifact import load
from tvm_rsq.errors import Error
from tvm_rsq.targets.parse import parse_target
from tvm_rsq.tuning.work_dir import open_work_dir

ABOUT = (
    "`tvm-rsq compile` and, every second time, `tvm-rsq tune` of a small network is killed outright at a random moment, the process alone, "
    "not what it started: uniformly up to 1.1 times what a compile takes, and up to twice what a tune of 8 trials takes, which begins anew "
    "where all choices are on record. It survives where the artifact is whole or not there, the tuning database opens and holds all that "
    "it held, no process of the killed one is left after 5 s, and a run to the end leaves neither temporary folders nor half-written files."
)
_PATIENCE_S = 5.0
_TRIALS, _FEW = 400, 8  # more than a run gets to before it is killed; of the run that tells how long it takes to begin


def kills(network: Path, count: int, seed: int, folder: Path, counted: Counter[str]) -> Iterator[tuple[str, str]]:
    """(what was done, what is wrong afterwards, "" if nothing) of every kill, and of the two runs to the end after them.

    counted  is told how many killed tunes had measured something
    """
    place, rng = Place(folder), np.random.default_rng(seed)
    compile_, tune = _commands(network, place)
    whole_s, few_s = place.run(compile_), place.run([*tune, "--trials", str(_FEW)])
    (place.out / "net.rsq").unlink()
    tuning = place.out / "tuning"
    wrong, records = _database(tuning, 0)
    for number in range(count):
        tunes, before = number % 2 == 1, records
        delay = float(rng.uniform(0.0, 2 * few_s if tunes else 1.1 * whole_s))
        found, ended = _killed(place, [*tune, "--trials", str(_TRIALS)] if tunes else compile_, delay)
        wrong = wrong or found
        if tunes and not wrong:
            wrong, records = _database(tuning, records)
            counted["tunes that had measured when they were killed"] += records > before and not ended
            if ended:  # all choices are on record: the next one begins anew
                shutil.rmtree(tuning)
                records = 0
        elif not wrong:
            wrong = _artifact(place.out)
        yield f"{number} {'tune' if tunes else 'compile'} killed after {delay:.1f} s", wrong
        wrong = ""
    place.run(compile_)
    place.run([*tune, "--trials", str(records // 2 + 2)])
    left = [*os.listdir(place.temporary), *(name for name in os.listdir(place.out) if name not in ("net.rsq", "tuning"))]
    yield "compile and tune to the end", _artifact(place.out) or (f"left {left[:4]}" if left else "")


def _commands(network: Path, place: Place) -> tuple[list[str], list[str]]:
    compile_ = ["compile", str(network), "-o", str(place.out / "net.rsq"), "--levers", "none", "-q"]
    return compile_, ["tune", str(network), "--work-dir", str(place.out / "tuning"), "--levers", "none", "-q"]


def _killed(place: Place, arguments: list[str], delay: float) -> tuple[str, bool]:
    """What is wrong, and whether it had ended before."""
    with place.start(arguments) as process:
        time.sleep(delay)
        ended = process.poll() is not None
        process.kill()
        process.wait()
        deadline = time.monotonic() + _PATIENCE_S
        while (left := alive_in(process.pid)) and time.monotonic() < deadline:
            time.sleep(0.05)
    for orphan in left:
        os.kill(orphan, signal.SIGKILL)
    return f"{len(left)} processes went on" if left else "", ended


def _artifact(out: Path) -> str:
    path = out / "net.rsq"
    if not path.exists():
        return ""
    try:
        load(path)
    except Error as error:
        return str(error)
    return ""


def _database(folder: Path, before: int) -> tuple[str, int]:
    """What is wrong, and how many measurements it holds."""
    if not folder.exists():
        return "", before
    try:
        with open_work_dir(folder, parse_target("llvm").tvm_target()) as opened:
            now = sum(len(records) for records in opened._records.values())
    except Error as error:
        return str(error), 0
    return (f"{now} measurements, {before} before" if now < before else ""), now
