"""`tvm-rsq quantize`: the plan of a network, without compiling it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from tvm_rsq.cli import options
from tvm_rsq.cli.arrays import read_calibration
from tvm_rsq.cli.model_argument import read_model
from tvm_rsq.cli.paths import refuse_overwriting, writable
from tvm_rsq.cli.session import Session
from tvm_rsq.cli.show import frontier_table, layer_table, plan_summary
from tvm_rsq.report import formats


def quantize(
    session: Session,
    model: options.ModelArgument,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FILE", callback=writable,
            help="Write the plan, as JSON; or, with a name that ends in .onnx, the network with quantize and dequantize nodes (QDQ).",
        ),
    ] = None,  # fmt: skip
    opset: Annotated[int, typer.Option(min=13, max=21, help="Of the ONNX file. Weights of four bits are INT4 from 21 on.")] = 21,
    save_calibration: Annotated[
        Path | None,
        typer.Option(
            metavar="NPZ", callback=writable, rich_help_panel="Calibration data", help="Keep the calibration set, for `--calibration`."
        ),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option("--target", "-t", help="Decide for this target, by times measured here. Without it, granularity alone."),
    ] = None,
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
    """Show what every layer of MODEL would become, and why.

    Example:  tvm-rsq quantize net.onnx --override 'features.0.*=per_channel' -o plan.json; tvm-rsq quantize net.onnx -o net.qdq.onnx
    """
    config = options.quant_config(
        weight_bits=weight_bits, activation_bits=activation_bits, scheme=scheme, budget=budget, range_method=range_method,
        overrides=override, levers=levers, requantize=requantize, seed=seed, effort=effort, time_limit_s=time_limit,
        rounding=rounding, augment=augment, weight_range=weight_range, equalization=equalization, bias_correction=bias_correction,
        eight_bit_share=eight_bit_share, nonuniform=nonuniform, average_bits=average_bits, most_divergence=most_divergence,
        codebook_error=codebook_error, codebook_channels=codebook_channels, calibration=calibration, source=source,
    )  # fmt: skip
    refuse_overwriting(output, model)
    network = read_model(model)
    data = read_calibration(calibration)
    import tvm_rsq

    with session.progress() as progress:
        quantized = tvm_rsq.quantize(
            network.model, config, target=target, example_inputs=network.example_inputs, calibration=data, batch=batch,
            progress=progress.event, should_stop=session.interrupts.should_stop,
        )  # fmt: skip
    if save_calibration is not None:
        quantized.calibration.save(save_calibration)
    if output is not None and output.suffix.lower() == ".onnx":
        quantized.export_onnx(output, opset)
    elif output is not None:
        quantized.plan.save(output)
    for note in quantized.notes:
        session.note(f"note: {note}")
    session.result(
        {
            "output": None if output is None else str(output),
            "calibration": {
                "source": quantized.calibration.source,
                "samples": len(quantized.calibration),
                "notes": quantized.calibration.notes,
            },
            "seconds": progress.seconds,
            "plan": quantized.plan.as_record(),
        },
        layer_table(quantized.plan.layers, quantized.plan.provenance.get("measure", "time")),
        Text(),
        plan_summary(quantized.plan),
        *frontier_table(quantized.plan),
        *([Text(f"{output}: {formats.size(output.stat().st_size)}")] if output is not None else []),
    )
