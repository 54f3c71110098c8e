"""Whole networks on this machine's GPU: each answers right before it is timed, in turns with the others of its kind."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from itertools import groupby
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from scripts.device_run.network_case import NetworkCase
from scripts.device_run.torch_builds import torch_builds

_EXPAND = "expand_weights"  # what makes weights of codes; passes/lower_islands.py has the name
_WARMUP = 10
_TOLERANCE = 1e-3  # of FP32, in parts of the largest answer

Run = Callable[[], None]  # one inference on an input that is there, to its end


def measure_networks(
    bundle: Path, tvm: Any, cases: Sequence[NetworkCase], *, repeat: int, torch: bool, note: Callable[[dict[str, Any]], None]
) -> list[dict[str, Any]]:
    """A row for each build, torch's among them where it is there: {"network", "batch", "build", "exact", "error", "time_us"}.

    repeat  inferences timed of each; 0: they are only checked
    """
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for (network, batch), group in groupby(cases, key=lambda case: (case.network, case.batch)):
            runs: dict[str, Run] = {}
            some: dict[str, dict[str, Any]] = {}
            models = {}
            for case in group:
                some[case.build], run = _checked(bundle, tvm, case, Path(folder))
                if run is not None:
                    runs[case.build] = run
                models[case.model] = case
            if repeat and torch:
                for case in models.values():
                    for name, made in torch_builds(case):
                        row = {"network": network, "batch": batch, "build": name, "exact": None, "wrong": None, "largest_difference": None}
                        some[name] = {**row, "error": made if isinstance(made, str) else None}
                        if not isinstance(made, str):
                            runs[name] = made
            times = _in_turns(runs, repeat) if repeat else {}
            for name, row in some.items():
                row["time_us"] = times.get(name)
                row["median_us"] = median(times[name]) if name in times else None
                note(row)
                rows.append(row)
    return rows


def _checked(bundle: Path, tvm: Any, case: NetworkCase, folder: Path) -> tuple[dict[str, Any], Run | None]:
    """The row without times; what to time, None where the answer is wrong."""
    device = tvm.cuda(0)
    machine = tvm.runtime.vm.VirtualMachine(tvm.runtime.load_module(str(case.unpacked(bundle, folder))), device)
    main, data = machine["main"], tvm.runtime.tensor(case.inputs(), device)
    weights = tuple(machine[_EXPAND]()) if machine.module.implements_function(_EXPAND) else ()

    def run() -> None:
        main(data, *weights)
        device.sync()

    wanted = case.expected(bundle)
    for _ in range(3):  # the first by kernels, later ones as a graph
        found = main(data, *weights)
    answer = (found if hasattr(found, "numpy") else found[0]).numpy()
    difference = float(np.abs(answer - wanted).max())
    wrong = int((answer != wanted).sum())
    exact = answer.tobytes() == wanted.tobytes()
    fine = exact if case.exact else difference <= _TOLERANCE * float(np.abs(wanted).max())
    row = {
        "network": case.network, "batch": case.batch, "build": case.build, "exact": exact, "wrong": wrong,
        "largest_difference": difference, "error": None if fine else f"{wrong} of {answer.size} values are wrong",
    }  # fmt: skip
    return row, run if fine else None


def _in_turns(runs: dict[str, Run], repeat: int) -> dict[str, list[float]]:
    """Microseconds of every inference, by the host's clock, input and output on the device."""
    for run in runs.values():
        for _ in range(_WARMUP):
            run()
    times: dict[str, list[float]] = {name: [] for name in runs}
    names = list(runs)
    for i in range(repeat):
        for name in names[i % len(names) :] + names[: i % len(names)]:  # who follows a slow one finds cold caches
            start = time.perf_counter_ns()
            runs[name]()
            times[name].append((time.perf_counter_ns() - start) / 1000)
    return {name: [round(each, 2) for each in found] for name, found in times.items()}
