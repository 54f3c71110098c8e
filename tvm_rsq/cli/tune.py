"""`tvm-rsq tune`: measure on this machine how each kernel is made best, for `tvm-rsq compile --tuning`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from tvm_rsq.cli import options
from tvm_rsq.cli.arrays import read_calibration
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
    target: options.TargetOption = "llvm",
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
) -> None:
    """Quantize MODEL as `compile` does with these options, and tune its convolutions on this machine.

    Every measurement is kept at once: after Ctrl-C or a kill, the same command goes on where it was.

    Example:  tvm-rsq tune net.onnx --trials 512 --work-dir tuning; tvm-rsq compile net.onnx --tuning tuning -o net.rsq
    """
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
    from tvm_rsq.targets.parse import parse_target
    from tvm_rsq.tuning.runner import check_runs_here
    from tvm_rsq.tuning.work_dir import check_work_dir

    tuning = tvm_rsq.TuneConfig(trials=trials, work_dir=work_dir, seed=seed, threads=threads)
    spec = parse_target(target)
    check_runs_here(spec)  # before the long work, as is the folder
    check_work_dir(work_dir)
    with session.progress() as progress:
        quantized = tvm_rsq.quantize(
            network.model, config, target=spec, example_inputs=network.example_inputs, calibration=data, batch=batch,
            progress=progress.event, should_stop=session.interrupts.should_stop,
        )  # fmt: skip
        results = tune_quantized(quantized, spec, tuning, progress=progress.event)
    untuned, tuned = sum(result.untuned_us for result in results), sum(result.us for result in results)
    ratio = tuned / untuned if untuned else 1.0
    session.result(
        {
            "network": quantized.model.name,
            "target": spec.name,
            "threads": results[0].task.task.threads if results else threads,
            "work_dir": str(work_dir),
            "untuned_us": untuned,
            "tuned_us": tuned,
            "seconds": progress.seconds,
            "tasks": [_record(result) for result in results],
        },
        _table(results),
        Text(),
        Text(f"all convolutions: {untuned:.0f} us untuned, {tuned:.0f} us tuned, {ratio:.3f} of it; records in {work_dir}"),
    )


def _record(result: TaskResult) -> dict[str, object]:
    return {
        "layers": result.task.layers, "workload": result.shape, "untuned_us": result.untuned_us, "tuned_us": result.us,
        "choice": result.knobs, "kept_untuned": result.kept_untuned, "measured": result.decision.measured, "space": result.space,
    }  # fmt: skip


def _table(results: tuple[TaskResult, ...]) -> Table:
    return table(
        ("layers", "convolution", "choice", "measured", "untuned us", "tuned us", "ratio"),
        (_row(result) for result in sorted(results, key=lambda result: -result.untuned_us)),
        left=3,
    )


def _row(result: TaskResult) -> tuple[str, ...]:
    choice = "untuned" if result.kept_untuned else _knobs(result.knobs)
    measured = f"{result.decision.measured}/{result.space}"
    ratio = result.us / result.untuned_us
    return _layers(result.task.layers), result.shape, choice, measured, f"{result.untuned_us:.1f}", f"{result.us:.1f}", f"{ratio:.3f}"


def _layers(names: tuple[str, ...]) -> str:
    return printable(names[0]) + (f" and {len(names) - 1} more" if len(names) > 1 else "")


def _knobs(knobs: dict[str, int | str]) -> str:
    return " ".join(f"{value}" if name == "algorithm" else f"{name}={value}" for name, value in knobs.items())
