"""`tvm-rsq bench`: latency of artifacts and networks, in turns, and where the time goes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from tvm_rsq.cli import device_options, options
from tvm_rsq.cli.arrays import read_calibration
from tvm_rsq.cli.bench_devices import bench_devices
from tvm_rsq.cli.invocation import command_line
from tvm_rsq.cli.latency_tables import gmacs, is_effective, latency_table, profile_table
from tvm_rsq.cli.model_argument import SUFFIXES, Network, read_model
from tvm_rsq.cli.session import Session
from tvm_rsq.errors import ArtifactError

if TYPE_CHECKING:
    from tvm_rsq.compiled_module import CompiledModule
    from tvm_rsq.report.data import LayerTime
    from tvm_rsq.targets.peak import Peak


_OF_COMPILING = (
    "target", "batch", "weight_bits", "average_bits", "most_divergence", "activation_bits", "scheme", "budget",
    "levers", "requantize", "range_method", "rounding", "augment", "weight_range", "eight_bit_share", "nonuniform",
    "codebook_error", "codebook_channels", "equalization", "bias_correction", "override", "calibration", "source",
    "effort", "time_limit", "tuning",
)  # fmt: skip


def bench(
    session: Session,
    context: typer.Context,
    networks: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL...",
            help="Files that `tvm-rsq compile` wrote; or .onnx, .pt2 or package.module:callable, which is compiled here.",
        ),
    ],
    fp32: Annotated[
        str | None, typer.Option("--fp32", metavar="MODEL", help="Build this network in FP32 too, for the first build's target.")
    ] = None,
    layers: Annotated[
        bool | None,
        typer.Option("--layers/--no-layers", help="Profile the first build kernel by kernel. Default: where it is compiled here."),
    ] = None,
    repeat: Annotated[int, typer.Option(min=1, help="Measured runs of each.")] = 50,
    warmup: Annotated[int, typer.Option(min=0, help="Runs of each before that.")] = 5,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads of the runtime. Default: TVM_NUM_THREADS, or every core.")] = None,
    seed: options.Seed = options.DEFAULTS.seed,
    report: options.ReportOption = None,
    target: options.TargetOption = None,
    batch: options.Batch = None,
    weight_bits: options.WeightBits = options.DEFAULTS.weight_bits,
    average_bits: options.AverageBits = None,
    most_divergence: options.MostDivergence = None,
    activation_bits: options.ActivationBits = options.DEFAULTS.activation_bits,
    scheme: options.SchemeOption = options.DEFAULTS.scheme,
    budget: options.Budget = options.DEFAULTS.budget,
    levers: options.Levers = "auto",
    requantize: options.Requantize = options.DEFAULTS.requantize,
    range_method: options.RangeMethodOption = options.DEFAULTS.range_method,
    rounding: options.RoundingOption = options.DEFAULTS.rounding,
    augment: options.Augment = options.DEFAULTS.augment,
    weight_range: options.WeightRangeOption = options.DEFAULTS.weight_range,
    eight_bit_share: options.EightBitShare = options.DEFAULTS.eight_bit_share,
    nonuniform: options.Nonuniform = options.DEFAULTS.nonuniform,
    codebook_error: options.CodebookError = options.DEFAULTS.codebook_error,
    codebook_channels: options.CodebookChannels = options.DEFAULTS.codebook_channels,
    equalization: options.EqualizationOption = options.DEFAULTS.equalization,
    bias_correction: options.BiasCorrectionOption = options.DEFAULTS.bias_correction,
    override: options.Overrides = None,
    calibration: options.Calibration = None,
    source: options.SourceOption = options.DEFAULTS.synthesis.source,
    effort: options.Effort = options.DEFAULTS.effort,
    time_limit: options.TimeLimit = None,
    tuning: Annotated[
        Path | None, typer.Option("--tuning", metavar="DIR", help="Make kernels as `tvm-rsq tune --work-dir DIR` found best.")
    ] = None,
    tracker: device_options.Tracker = None,
    device: device_options.Devices = None,
    measure: device_options.MeasureOption = "auto",
    session_timeout: device_options.SessionTimeout = 300.0,
    builds: device_options.BuildsOption = "hybrid,per-channel,FP32",
    plan: device_options.PlanOption = "one",
) -> None:
    """Measure latency, numpy in and numpy out, in turns; show median and spread, and what each kernel makes of the core's peak.

    With --device cuda, on this machine's GPU. With --device and a tracker, on boards over RPC instead: every build is checked there before
    it is measured; --json FILE has each row at once, and the same command goes on where it was.

    Example:  tvm-rsq bench net.onnx --threads 1; tvm-rsq bench net.rsq --fp32 net.onnx --layers --report report.html
    """
    if device == "cuda" and tracker is None:  # this machine's own
        target, device = target or device, None
    boards = device_options.read_devices(device, tracker, measure, session_timeout, threads)
    if boards:
        device_options.refuse_local(target, fp32, layers)
    if threads is not None:
        os.environ["TVM_NUM_THREADS"] = str(threads)
    sources = {name: None if _is_artifact(name) else read_model(name) for name in networks}
    if not any(sources.values()):
        _refuse_options(context)
    config = options.quant_config(
        weight_bits=weight_bits, activation_bits=activation_bits, scheme=scheme, budget=budget, range_method=range_method,
        overrides=override, levers=levers, requantize=requantize, seed=seed, effort=effort, time_limit_s=time_limit,
        rounding=rounding, augment=augment, weight_range=weight_range, equalization=equalization, bias_correction=bias_correction,
        eight_bit_share=eight_bit_share, nonuniform=nonuniform, average_bits=average_bits, most_divergence=most_divergence,
        codebook_error=codebook_error, codebook_channels=codebook_channels, calibration=calibration, source=source,
    )  # fmt: skip
    baseline = None if fp32 is None else read_model(fp32)
    data = read_calibration(calibration)
    if boards:
        bench_devices(
            session, sources, boards, config, names=device_options.build_names(builds), plan=plan, data=data, batch=batch, tuning=tuning,
            repeat=repeat, warmup=warmup, report=report,
        )  # fmt: skip
        return
    import tvm_rsq
    from tvm_rsq.benchmark import is_unstable, random_inputs
    from tvm_rsq.benchmark import measure as measure_builds
    from tvm_rsq.report.data import LatencyRow
    from tvm_rsq.targets.parse import parse_target
    from tvm_rsq.threads import thread_count
    from tvm_rsq.tuning.runner import check_runs_here

    if any(sources.values()):
        check_runs_here(parse_target(target or "llvm"))  # before the long work
    with session.progress() as progress:
        modules = {name: tvm_rsq.load(Path(name)) for name, network in sources.items() if network is None}
        for name, network in sources.items():
            if network is not None:
                modules[name] = tvm_rsq.compile(
                    network.model, target or "llvm", config, example_inputs=network.example_inputs, calibration=data, batch=batch,
                    tuning=None if tuning is None else tvm_rsq.TuneConfig(trials=0, work_dir=tuning, threads=threads),
                    progress=progress.event, should_stop=session.interrupts.should_stop,
                )  # fmt: skip
        modules = {name: modules[name] for name in sources}
        first = modules[networks[0]]
        if report is not None and first.report is None:
            raise ArtifactError(f"{networks[0]} carries no report, expected one in the first build; name a quantized build first")
        if baseline is not None:
            modules["FP32"] = tvm_rsq.build_float(
                baseline.model, dict(first.contents.target), example_inputs=baseline.example_inputs, batch=first.inputs[0].shape[0],
                progress=progress.event,
            )  # fmt: skip
            _note_other_networks(session, modules, baseline, str(fp32), first.inputs[0].shape[0])
        calls = {name: partial(module.run, *random_inputs(module.inputs, seed)) for name, module in modules.items()}
        times = measure_builds(calls, repeat=repeat, warmup=warmup, progress=progress.event)
        of_kernels = first.contents.target["kind"] == "llvm"  # elsewhere they are started together
        profiled = (sources[networks[0]] is not None and of_kernels) if layers is None else layers
        profile = first.profile(*random_inputs(first.inputs, seed), repeat=repeat) if profiled else ()
        peak = _peak(dict(first.contents.target)) if any(entry.macs for entry in profile) else None
    used = thread_count()
    sizes = {name: Path(name).stat().st_size for name, network in sources.items() if network is None}  # the others are in no file
    rows = tuple(
        LatencyRow(build=name, times_us=found, artifact_bytes=sizes.get(name, 0), target=modules[name].target, threads=used)
        for name, found in times.items()
    )
    unstable = [row.build for row in rows if is_unstable(row.times_us)]
    if unstable:
        session.note(f"warning: unstable times for {', '.join(unstable)}; close other programs, or raise --repeat")
    most = None if peak is None else peak.gmacs * used
    # Winograd kernels multiply less than is counted: their speed is an effective one, which may well be beyond the peak.
    speeds = {entry.layer: gmacs(entry.macs, entry.time_us) or 0.0 for entry in profile if not is_effective(entry.kernel)}
    if most is not None and (beyond := [layer for layer, speed in speeds.items() if speed > most]):
        session.note(f"note: {', '.join(beyond)} beyond the peak of {most:.0f} GMAC/s, which was measured in a slow moment")
    if report is not None and first.report is not None:
        from tvm_rsq.report import page

        facts = {**first.report.facts, "command": command_line()}
        page.write(replace(first.report, latencies=rows, layer_times=tuple(profile) or first.report.layer_times, facts=facts), report)
    session.result(
        {
            "builds": [
                {
                    **asdict(row), "median_us": median(row.times_us), "unstable": row.build in unstable,
                    "library": modules[row.build].contents.digest,
                }  # fmt: skip
                for row in rows
            ],
            "peak": None if peak is None else asdict(peak),
            "layers": [_layer(entry, most) for entry in profile],
            "report": None if report is None else str(report),
        },
        latency_table(rows, baseline="FP32" if baseline is not None else rows[0].build),
        *([profile_table(profile, most)] if profile else []),
        *([Text(f"peak: {peak.gmacs:.3g} GMAC/s a core ({peak.name}, {peak.form})")] if peak is not None else []),
    )


def _note_other_networks(session: Session, modules: Mapping[str, CompiledModule], baseline: Network, fp32: str, batch: int) -> None:
    """A warning where an artifact was made of another network than what it is compared with; a QDQ file's network is another one always."""
    from tvm_rsq import pipeline
    from tvm_rsq.frontend import load_model
    from tvm_rsq.plan import OF_THE_FILE

    plans = {name: module.plan for name, module in modules.items() if module.plan is not None}
    known = pipeline.prepare(load_model.load(baseline.model, baseline.example_inputs, batch=batch)).network_hash
    others = [name for name, plan in plans.items() if plan.network_hash != known and plan.provenance.get("scheme") != OF_THE_FILE]
    if others:
        session.note(f"warning: {', '.join(others)} compiled from another network than {fp32} (its hash differs): vs FP32 compares the two")


def _is_artifact(name: str) -> bool:
    """Whether `name` is meant as a compiled file: it has no suffix of a network, and is no package.module:callable."""
    path = Path(name)
    return path.suffix.lower() not in SUFFIXES and (path.exists() or ":" not in name)


def _layer(entry: LayerTime, peak: float | None) -> dict[str, object]:
    speed = gmacs(entry.macs, entry.time_us)
    return {**asdict(entry), "gmacs": speed, "fraction_of_peak": None if speed is None or peak is None else speed / peak}


def _peak(target: dict[str, object]) -> Peak:
    from tvm_rsq.targets import peak
    from tvm_rsq.targets.parse import parse_target

    return peak.measure_peak(parse_target(target))


def _refuse_options(context: typer.Context) -> None:
    """BadParameter: options that decide how to compile, while everything named is compiled already."""
    given = [name for name in _OF_COMPILING if getattr(context.get_parameter_source(name), "name", "DEFAULT") != "DEFAULT"]
    if given:
        names = ", ".join("--" + name.replace("_", "-") for name in given)
        raise typer.BadParameter(f"{names} cannot change what artifacts hold; name a network, or leave it out")
