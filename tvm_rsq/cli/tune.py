"""`tvm-rsq tune`: measure on this machine, or on boards, how each kernel is made best, for `tvm-rsq compile --tuning`."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from tvm_rsq.cli import device_options, options
from tvm_rsq.cli.arrays import read_calibration
from tvm_rsq.cli.device_options import read_device
from tvm_rsq.cli.model_argument import read_model
from tvm_rsq.cli.session import Session
from tvm_rsq.cli.show import printable, table

if TYPE_CHECKING:
    from tvm_rsq.tuning.tune import TaskResult


def tune(
    session: Session,
    model: options.ModelArgument,
    work_dir: Annotated[Path, typer.Option("--work-dir", "-d", metavar="DIR", help="Where records are kept; networks may share one.")],
    trials: Annotated[int, typer.Option(min=0, help="Measurements to have on record for this network, old ones included.")] = 512,
    threads: Annotated[
        int | None, typer.Option(min=1, help="That the network will run on. Default: TVM_NUM_THREADS, or every core.")
    ] = None,
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
    seed: options.Seed = options.DEFAULTS.seed,
    effort: options.Effort = options.DEFAULTS.effort,
    time_limit: options.TimeLimit = None,
    tracker: device_options.Tracker = None,
    device: device_options.Device = None,
    measure: device_options.MeasureOption = "auto",
    session_timeout: device_options.SessionTimeout = 300.0,
) -> None:
    """Quantize MODEL as `compile` does with these options, and tune its convolutions on this machine, or on all boards of a key at once.

    Every measurement is kept at once: after Ctrl-C or a kill, the same command goes on where it was.

    Example:  tvm-rsq tune net.onnx --trials 512 --work-dir tuning; tvm-rsq compile net.onnx --tuning tuning -o net.rsq
    """
    boards = read_device(device, tracker, measure, session_timeout)
    options.refuse_both(target, boards)
    if threads is not None:
        os.environ["TVM_NUM_THREADS"] = str(threads)  # the plan, too, is decided by times at this number
    config = options.quant_config(
        weight_bits=weight_bits, activation_bits=activation_bits, scheme=scheme, budget=budget, range_method=range_method,
        overrides=override, levers=levers, requantize=requantize, seed=seed, effort=effort, time_limit_s=time_limit,
        rounding=rounding, augment=augment, weight_range=weight_range, equalization=equalization, bias_correction=bias_correction,
        eight_bit_share=eight_bit_share, nonuniform=nonuniform, average_bits=average_bits, most_divergence=most_divergence,
        codebook_error=codebook_error, codebook_channels=codebook_channels, calibration=calibration, source=source,
    )  # fmt: skip
    network = read_model(model)
    data = read_calibration(calibration)
    import tvm_rsq
    from tvm_rsq.compiler import tune_quantized
    from tvm_rsq.remote.remote_runner import remote_runner
    from tvm_rsq.targets.parse import parse_target
    from tvm_rsq.tuning.task import TIME, this_machine
    from tvm_rsq.tuning.tune_network import check_tuning

    tuning = tvm_rsq.TuneConfig(trials=trials, work_dir=work_dir, seed=seed, threads=threads)
    spec = parse_target("llvm" if target is None else target) if boards is None else boards.spec()
    check_tuning(replace(tuning, trials=1), spec, elsewhere=boards is not None)  # before the long work, as is the folder
    with session.progress() as progress, remote_runner(boards, progress.event) as runner:
        quantized = tvm_rsq.quantize(
            network.model, config, target=spec if boards is None else None, example_inputs=network.example_inputs, calibration=data,
            batch=batch, device=boards, progress=progress.event, should_stop=session.interrupts.should_stop,
        )  # fmt: skip
        machine = this_machine() if runner is None else runner.machine
        results = tune_quantized(quantized, spec, tuning, runner=runner, machine=machine, progress=progress.event)
    untuned, tuned = sum(result.untuned_cost for result in results), sum(result.cost for result in results)
    ratio = tuned / untuned if untuned else 1.0
    unit = "us" if machine.measure == TIME else machine.measure.replace("-", " ")
    time_us = (untuned, tuned) if machine.measure == TIME else (None, None)
    session.result(
        {
            "network": quantized.model.name,
            "target": spec.name,
            "device": None if boards is None else boards.key,
            "boards": machine.at_once,
            "measure": machine.measure,
            "threads": results[0].task.task.threads if results else threads,
            "work_dir": str(work_dir),
            "untuned": untuned,
            "tuned": tuned,
            "untuned_us": time_us[0],
            "tuned_us": time_us[1],
            "seconds": progress.seconds,
            "tasks": [_record(result) for result in results],
        },
        _table(results, unit),
        Text(),
        Text(f"all convolutions: {untuned:.0f} {unit} untuned, {tuned:.0f} {unit} tuned, {ratio:.3f} of it; records in {work_dir}"),
    )


def _record(result: TaskResult) -> dict[str, object]:
    timed = result.task.task.measure == "time"
    return {
        "layers": result.task.layers, "workload": result.shape, "untuned": result.untuned_cost, "tuned": result.cost,
        "untuned_us": result.untuned_cost if timed else None, "tuned_us": result.cost if timed else None,
        "choice": result.knobs, "kept_untuned": result.kept_untuned, "measured": result.decision.measured, "space": result.space,
    }  # fmt: skip


def _table(results: tuple[TaskResult, ...], unit: str) -> Table:
    return table(
        ("layers", "convolution", "choice", "measured", f"untuned {unit}", f"tuned {unit}", "ratio"),
        (_row(result) for result in sorted(results, key=lambda result: -result.untuned_cost)),
        left=3,
    )


def _row(result: TaskResult) -> tuple[str, ...]:
    choice = "untuned" if result.kept_untuned else _knobs(result.knobs)
    measured = f"{result.decision.measured}/{result.space}"
    digits = 1 if result.task.task.measure == "time" else 0
    costs = (f"{cost:.{digits}f}" for cost in (result.untuned_cost, result.cost))
    return _layers(result.task.layers), result.shape, choice, measured, *costs, f"{result.cost / result.untuned_cost:.3f}"


def _layers(names: tuple[str, ...]) -> str:
    return printable(names[0]) + (f" and {len(names) - 1} more" if len(names) > 1 else "")


def _knobs(knobs: dict[str, int | str]) -> str:
    return " ".join(f"{value}" if name == "algorithm" else f"{name}={value}" for name, value in knobs.items())
