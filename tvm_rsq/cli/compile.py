"""`tvm-rsq compile`: network in, integer library out."""

from __future__ import annotations

import json
import os
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.text import Text

from tvm_rsq.atomic_write import atomic_write
from tvm_rsq.cli import device_options, options
from tvm_rsq.cli.arrays import read_calibration
from tvm_rsq.cli.device_options import read_device
from tvm_rsq.cli.invocation import command_line
from tvm_rsq.cli.model_argument import read_model
from tvm_rsq.cli.paths import refuse_overwriting, writable
from tvm_rsq.cli.session import Session
from tvm_rsq.cli.show import frontier_table, layer_table, plan_summary
from tvm_rsq.report import formats


def compile_(
    session: Session,
    model: options.ModelArgument,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", callback=writable, help="The artifact, one file.")],
    target: options.TargetOption = None,
    report: options.ReportOption = None,
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
    seed: options.Seed = options.DEFAULTS.seed,
    effort: options.Effort = options.DEFAULTS.effort,
    time_limit: options.TimeLimit = None,
    tuning: Annotated[
        Path | None, typer.Option("--tuning", metavar="DIR", help="Make kernels as `tvm-rsq tune --work-dir DIR` found best.")
    ] = None,
    codes: Annotated[
        Literal["auto", "load", "kernel"],
        typer.Option(help="Where weights of fewer than 8 bits are made of their codes: at loading, or in the kernels, which saves memory."),
    ] = "auto",
    threads: Annotated[
        int | None, typer.Option(min=1, help="That the network will run on, as given to tune. Default: TVM_NUM_THREADS, or every core.")
    ] = None,
    tracker: device_options.Tracker = None,
    device: device_options.Device = None,
    measure: device_options.MeasureOption = "auto",
    session_timeout: device_options.SessionTimeout = 300.0,
) -> None:
    """Quantize MODEL and compile it to an integer library for TARGET.

    Example:  tvm-rsq compile net.onnx -o net.rsq --report report.html
    """
    if threads is not None:
        os.environ["TVM_NUM_THREADS"] = str(threads)
    config = options.quant_config(
        weight_bits=weight_bits, activation_bits=activation_bits, scheme=scheme, budget=budget, range_method=range_method,
        overrides=override, levers=levers, requantize=requantize, seed=seed, effort=effort, time_limit_s=time_limit,
        rounding=rounding, augment=augment, weight_range=weight_range, equalization=equalization, bias_correction=bias_correction,
        eight_bit_share=eight_bit_share, nonuniform=nonuniform, average_bits=average_bits, most_divergence=most_divergence,
        codebook_error=codebook_error, codebook_channels=codebook_channels, calibration=calibration, source=source,
    )  # fmt: skip
    boards = read_device(device, tracker, measure, session_timeout)
    options.refuse_both(target, boards)
    refuse_overwriting(output, model)
    network = read_model(model)
    data = read_calibration(calibration)
    import tvm_rsq

    with session.progress() as progress:
        module = tvm_rsq.compile(
            network.model, target, config, example_inputs=network.example_inputs, calibration=data, batch=batch,
            tuning=None if tuning is None else tvm_rsq.TuneConfig(trials=0, work_dir=tuning, threads=threads),
            codes=codes, device=boards, progress=progress.event, should_stop=session.interrupts.should_stop,
        )  # fmt: skip
    found, plan = module.report, module.plan
    assert found is not None and plan is not None, "an integer library carries both"
    with ExitStack() as files:  # both or neither
        made = [files.enter_context(atomic_write(path)) for path in (output, report) if path is not None]
        module.save(made[0])
        if report is not None:
            from tvm_rsq.report import page

            page.write(replace(found, facts={**found.facts, "command": command_line()}), made[1])
    for note in found.notes:
        session.note(f"note: {note}")
    size = output.stat().st_size
    before, after = found.weight_bytes_before, found.weight_bytes_after
    session.result(
        {
            "network": found.network,
            "target": module.target,
            "artifact": str(output),
            "artifact_bytes": size,
            "report": None if report is None else str(report),
            "weight_bytes_before": before,
            "weight_bytes_after": after,
            "seconds": progress.seconds,
            "notes": found.notes,
            "plan": json.loads(plan.to_json()),
        },
        layer_table(plan.layers, plan.provenance.get("measure", "time")),
        Text(),
        plan_summary(plan),
        *frontier_table(plan),
        Text(f"weights {formats.size(before)} -> {formats.size(after)} ({formats.ratio(before / after if after else None)} smaller)"),
        Text(f"{output}: {formats.size(size)} for {module.target}" + (f"; report in {report}" if report else "")),
    )
