"""`tvm-rsq bench`: latency of artifacts, in turns."""

from __future__ import annotations

import os
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from tvm_rsq.cli import options
from tvm_rsq.cli.invocation import command_line
from tvm_rsq.cli.model_argument import read_model
from tvm_rsq.cli.session import Session
from tvm_rsq.cli.show import table
from tvm_rsq.errors import ArtifactError
from tvm_rsq.report import formats

if TYPE_CHECKING:
    from tvm_rsq.report.data import LatencyRow, LayerTime


def bench(
    session: Session,
    artifacts: Annotated[list[Path], typer.Argument(metavar="ARTIFACT...", help="Files that `tvm-rsq compile` wrote.")],
    fp32: Annotated[
        str | None, typer.Option("--fp32", metavar="MODEL", help="Build this network in FP32 too, for the first artifact's target.")
    ] = None,
    layers: Annotated[bool, typer.Option("--layers", help="Profile the first artifact kernel by kernel.")] = False,
    repeat: Annotated[int, typer.Option(min=1, help="Measured runs of each.")] = 50,
    warmup: Annotated[int, typer.Option(min=0, help="Runs of each before that.")] = 5,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads of the runtime. Default: TVM_NUM_THREADS, or every core.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the random inputs.")] = 0,
    report: options.ReportOption = None,
) -> None:
    """Measure the latency of artifacts, numpy in and numpy out, in turns; show median and spread.

    Example:  tvm-rsq bench net.rsq --fp32 net.onnx --layers --report report.html
    """
    if threads is not None:
        os.environ["TVM_NUM_THREADS"] = str(threads)
    network = None if fp32 is None else read_model(fp32)
    import tvm_rsq
    from tvm_rsq.benchmark import is_unstable, measure, random_inputs
    from tvm_rsq.report.data import LatencyRow
    from tvm_rsq.threads import thread_count

    modules = {str(path): tvm_rsq.load(path) for path in artifacts}
    first = modules[str(artifacts[0])]
    if report is not None and first.report is None:
        raise ArtifactError(f"{artifacts[0]} carries no report, expected one in the first artifact; name a quantized build first")
    sizes = {str(path): path.stat().st_size for path in artifacts}
    with session.progress() as progress:
        if network is not None:
            modules["FP32"] = tvm_rsq.build_float(
                network.model, dict(first.contents.target), example_inputs=network.example_inputs, batch=first.inputs[0].shape[0],
                progress=progress.event,
            )  # fmt: skip
        calls = {name: partial(module.run, *random_inputs(module.inputs, seed)) for name, module in modules.items()}
        times = measure(calls, repeat=repeat, warmup=warmup, progress=progress.event)
        profile = first.profile(*random_inputs(first.inputs, seed), repeat=repeat) if layers else ()
    used = thread_count()
    rows = tuple(
        LatencyRow(build=name, times_us=found, artifact_bytes=sizes.get(name, 0), target=modules[name].target, threads=used)
        for name, found in times.items()
    )
    unstable = [row.build for row in rows if is_unstable(row.times_us)]
    if unstable:
        session.note(f"warning: unstable times for {', '.join(unstable)}; close other programs, or raise --repeat")
    if report is not None:
        from tvm_rsq.report import page

        facts = {**first.report.facts, "command": command_line()}
        page.write(replace(first.report, latencies=rows, layer_times=tuple(profile) or first.report.layer_times, facts=facts), report)
    session.result(
        {
            "builds": [{**asdict(row), "median_us": median(row.times_us), "unstable": row.build in unstable} for row in rows],
            "layers": [asdict(entry) for entry in profile],
            "report": None if report is None else str(report),
        },
        _latencies(rows, baseline="FP32" if network is not None else rows[0].build),
        *([_profile(profile)] if profile else []),
    )


def _latencies(rows: tuple[LatencyRow, ...], baseline: str) -> Table:
    from tvm_rsq.report.summary import quantile

    base = next(median(row.times_us) for row in rows if row.build == baseline)
    return table(
        ("build", "median", "5 %", "95 %", "fastest", f"vs {baseline}", "file", "threads"),
        (
            (
                row.build, formats.duration(median(row.times_us)), formats.duration(quantile(row.times_us, 0.05)),
                formats.duration(quantile(row.times_us, 0.95)), formats.duration(min(row.times_us)),
                formats.ratio(base / median(row.times_us)), formats.size(row.artifact_bytes or None), str(row.threads),
            )
            for row in rows
        ),
    )  # fmt: skip


def _profile(entries: tuple[LayerTime, ...]) -> Table:
    total = sum(entry.time_us for entry in entries) or 1.0
    return table(
        ("layer", "kernel", "time", "share", "GMAC/s"),
        (
            (
                entry.layer, entry.kernel, formats.duration(entry.time_us), formats.percent(entry.time_us / total),
                f"{entry.macs / entry.time_us / 1e3:.3g}" if entry.macs and entry.time_us > 0 else formats.MISSING,
            )
            for entry in entries
        ),
        left=2,
        title="\nkernels of the first artifact",
    )  # fmt: skip
