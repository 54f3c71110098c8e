"""Every case of a bundle on this machine's GPU: a wrong answer has no time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from scripts.device_run.case import SCHEMA, Case, Manifest
from scripts.device_run.clocks import clocks_when_busy
from scripts.device_run.driver import Driver
from scripts.device_run.placed import place
from scripts.device_run.row import row
from scripts.device_run.timing import WrongAnswer, copy_speed, times_of


def measure(
    bundle: Path, manifest: Manifest, cases: Sequence[Case], driver: Driver, *, repeat: int, note: Callable[[dict[str, Any]], None]
) -> dict[str, Any]:
    """The document: {"schema", "device", "rows"}.

    cases   of the manifest; none where it has networks alone
    repeat  graphs timed of each; 0: kernels are only checked
    note    called with every row as it is found

    BundleError: the bundle has no code for the GPU, or lacks a file. CudaError: the driver refused.
    """
    major, minor = driver.capability
    arch_file = manifest.cubin(major, minor) if cases else None
    module = None if arch_file is None else driver.load((bundle / arch_file).read_bytes())
    speed = copy_speed(driver, repeat) if repeat else None
    device = {
        "name": driver.name, "capability": f"{major}.{minor}", "cuda": driver.cuda_version, "multiprocessors": driver.multiprocessors,
        "l2_bytes": driver.l2_bytes, "cubin": arch_file, "copy_gb_per_s": speed, **clocks_when_busy(driver),
    }  # fmt: skip
    rows: list[dict[str, Any]] = []
    for case in cases:
        for made in _rows(bundle, case, driver, module, repeat, speed):
            note(made)
            rows.append(made)
    return {"schema": SCHEMA, "device": device, "packed": manifest.facts, "rows": rows}


def _rows(bundle: Path, case: Case, driver: Driver, module: object, repeat: int, speed: float | None) -> list[dict[str, Any]]:
    function = driver.function(module, case.symbol, case.shared_bytes)
    values = tuple(array.read(bundle) for array in case.arrays)
    try:
        placed = place(driver, case, function, values, 1)
        for launch in placed.launches():
            launch()
        wrong = placed.wrong_bytes()
    finally:
        driver.free()
    if wrong or not case.timed or not repeat:
        return [row(case, wrong, None, speed)]
    try:
        return [row(case, 0, times, speed) for times in times_of(driver, case, function, values, repeat)]
    except WrongAnswer as error:
        return [row(case, error.wrong_bytes, None, speed)]
