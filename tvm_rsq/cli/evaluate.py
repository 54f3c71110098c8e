"""`tvm-rsq evaluate`: how close the quantized network is to FP32 on the user's inputs."""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tvm_rsq.cli import options
from tvm_rsq.cli.arrays import read_array, read_calibration, read_inputs
from tvm_rsq.cli.model_argument import read_model
from tvm_rsq.cli.session import Session
from tvm_rsq.cli.show import table
from tvm_rsq.errors import ArtifactError
from tvm_rsq.report import formats

if TYPE_CHECKING:
    from tvm_rsq.compiled_module import CompiledModule
    from tvm_rsq.model import Model

_OF_QUANTIZATION = (
    "batch", "weight_bits", "average_bits", "most_divergence", "activation_bits", "scheme", "budget", "range_method", "rounding",
    "augment", "weight_range", "equalization", "eight_bit_share", "nonuniform", "codebook_error", "codebook_channels", "bias_correction",
    "override", "calibration", "source", "seed", "effort", "time_limit",
)  # fmt: skip


def evaluate(
    session: Session,
    context: typer.Context,
    model: options.ModelArgument,
    input_: Annotated[
        list[Path], typer.Option("--input", "-i", metavar="NPY", help="Samples (N, ...), one file per network input, in order.")
    ],
    labels: Annotated[Path | None, typer.Option(metavar="NPY", help="Class numbers (N,): adds top-1.")] = None,
    artifact: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Evaluate this artifact. Without it MODEL is quantized here and simulated.")
    ] = None,
    batch: options.Batch = None,
    weight_bits: options.WeightBits = options.DEFAULTS.weight_bits,
    average_bits: options.AverageBits = None,
    most_divergence: options.MostDivergence = None,
    activation_bits: options.ActivationBits = options.DEFAULTS.activation_bits,
    scheme: options.SchemeOption = options.DEFAULTS.scheme,
    budget: options.Budget = options.DEFAULTS.budget,
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
    """Compare the quantized network with the FP32 MODEL on your own inputs.

    Example:  tvm-rsq evaluate net.onnx --artifact net.rsq --input photos.npy --labels classes.npy
    """
    if artifact is not None:
        _refuse_options(context)
    config = options.quant_config(
        weight_bits=weight_bits, activation_bits=activation_bits, scheme=scheme, budget=budget, range_method=range_method,
        overrides=override, seed=seed, effort=effort, time_limit_s=time_limit,
        rounding=rounding, augment=augment, weight_range=weight_range, equalization=equalization, bias_correction=bias_correction,
        eight_bit_share=eight_bit_share, nonuniform=nonuniform, average_bits=average_bits, most_divergence=most_divergence,
        codebook_error=codebook_error, codebook_channels=codebook_channels, calibration=calibration, source=source,
    )  # fmt: skip
    network = read_model(model)
    inputs = read_inputs(input_)
    truth = None if labels is None else read_array(labels)
    data = read_calibration(calibration)
    import tvm_rsq
    from tvm_rsq.fidelity import compare, in_batches
    from tvm_rsq.frontend import load_model

    with session.progress() as progress:
        if artifact is not None:
            module = tvm_rsq.load(artifact)
            run, specs = module.run, module.inputs
            given = load_model.load(network.model, network.example_inputs, batch=specs[0].shape[0], progress=progress.event)
            _check_same_network(module, given, artifact, model)
            reference = tvm_rsq.build_float(given, "llvm", progress=progress.event)
        else:
            quantized = tvm_rsq.quantize(
                network.model, config, example_inputs=network.example_inputs, calibration=data, batch=batch,
                progress=progress.event, should_stop=session.interrupts.should_stop,
            )  # fmt: skip
            run, specs = quantized.simulate, quantized.model.inputs
            reference = tvm_rsq.build_float(quantized, "llvm", progress=progress.event)
        size = specs[0].shape[0]
        expected = in_batches(reference.run, inputs, size)
        found = compare(expected, in_batches(run, inputs, size), source=input_[0].name, labels=truth)
    rows = [
        ("samples", str(found.samples)),
        ("agreement with FP32", formats.percent(found.agreement)),
        ("KL divergence", f"{formats.nats(found.kl)} nats"),
        ("cosine", f"{found.cosine:.6f}"),
    ]
    if found.top1_fp32 is not None and found.top1_quantized is not None:
        rows += [("top-1, FP32", formats.percent(found.top1_fp32)), ("top-1, quantized", formats.percent(found.top1_quantized))]
    what = "simulated" if artifact is None else str(artifact)
    # So that `report --measured` can tell whether the artifact is still the one that was looked at.
    digest = None if artifact is None else hashlib.sha256(artifact.read_bytes()).hexdigest()
    session.result({"evaluated": what, "sha256": digest, **asdict(found), "seconds": progress.seconds}, table(("", what), rows))


def _refuse_options(context: typer.Context) -> None:
    """BadParameter: options that decide how to quantize, which an artifact has behind it."""
    given = [name for name in _OF_QUANTIZATION if getattr(context.get_parameter_source(name), "name", "DEFAULT") != "DEFAULT"]
    if given:
        names = ", ".join("--" + name.replace("_", "-") for name in given)
        raise typer.BadParameter(f"{names} cannot change what --artifact holds; leave out the one or the other")


def _check_same_network(module: CompiledModule, source: Model, artifact: Path, model: str) -> None:
    """ArtifactError: the artifact was compiled from another network. An FP32 build does not say."""
    from tvm_rsq import pipeline

    if module.plan is not None and module.plan.network_hash != pipeline.prepare(source).network_hash:
        raise ArtifactError(
            f"{artifact} was compiled from another network than {model} (its hash differs); name the network it was made from"
        )
