"""Options that several commands share, and the configuration that they make."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from tvm_rsq.cli.paths import writable
from tvm_rsq.config import BiasCorrection, Equalization, QuantConfig, RangeMethod, Rounding, Scheme, Source, SynthesisConfig, WeightRange
from tvm_rsq.errors import ConfigError

DEFAULTS = QuantConfig()

_NETWORK, _QUANTIZATION, _CALIBRATION = "Network", "Quantization", "Calibration data"

ModelArgument = Annotated[
    str, typer.Argument(metavar="MODEL", help="An .onnx or .pt2 file, or package.module:callable that returns (module, example_inputs).")
]
Batch = Annotated[int | None, typer.Option(min=1, rich_help_panel=_NETWORK, help="Fix a symbolic batch dimension.")]
TargetOption = Annotated[
    str | None,
    typer.Option(
        "--target", "-t", help="'llvm' (this CPU, the default), 'llvm -mcpu=...', 'llvm -mtriple=aarch64', or a preset: `tvm-rsq targets`."
    ),
]
ReportOption = Annotated[
    Path | None, typer.Option("--report", metavar="HTML", callback=writable, help="Also write the report, one self-contained page.")
]

WeightBits = Annotated[int, typer.Option(metavar="3|4|6|8", rich_help_panel=_QUANTIZATION, help="Bits of the weights.")]
AverageBits = Annotated[
    float | None,
    typer.Option(
        metavar="BITS", rich_help_panel=_QUANTIZATION,
        help="Instead: 3, 4, 6 or 8 bits a layer, so many a weight in the mean, codebooks counted.",
    ),
]  # fmt: skip
MostDivergence = Annotated[
    float | None,
    typer.Option(
        metavar="NATS", rich_help_panel=_QUANTIZATION, help="Instead: as few bits as keep the network's divergence within so many nats."
    ),
]
ActivationBits = Annotated[int, typer.Option(metavar="4|6|8", rich_help_panel=_QUANTIZATION, help="Bits of the activations.")]
SchemeOption = Annotated[
    Scheme,
    typer.Option("--scheme", rich_help_panel=_QUANTIZATION, help="hybrid: per tensor where it costs next to nothing, else per channel."),
]
Budget = Annotated[
    float,
    typer.Option(rich_help_panel=_QUANTIZATION, help="How much more hybrid may diverge from FP32 than per-channel does: 0.02 is 2 %."),
]
Levers = Annotated[
    str,
    typer.Option(
        metavar="WHICH",
        rich_help_panel=_QUANTIZATION,
        help="What hybrid may give up where the target is faster for it: auto, none, or some of per_tensor,shift,accumulate16,"
        "shared_residual.",
    ),
]
Requantize = Annotated[
    Literal["float", "fixed_point"],
    typer.Option(rich_help_panel=_QUANTIZATION, help="How accumulators become bytes; fixed_point is TVM's own 64-bit product."),
]
RangeMethodOption = Annotated[
    RangeMethod, typer.Option("--range-method", rich_help_panel=_QUANTIZATION, help="How activation ranges are found.")
]
RoundingOption = Annotated[
    Rounding,
    typer.Option("--rounding", rich_help_panel=_QUANTIZATION, help="Of weights. adaround and reconstruct learn it, in minutes."),
]
Augment = Annotated[
    bool,
    typer.Option(
        "--augment/--no-augment", rich_help_panel=_QUANTIZATION,
        help="Learn roundings from mirrored and moved views of images too; not where mirrored inputs mean something else.",
    ),
]  # fmt: skip
WeightRangeOption = Annotated[
    WeightRange, typer.Option("--weight-range", rich_help_panel=_QUANTIZATION, help="How weight ranges are found; mse may clip.")
]
EightBitShare = Annotated[
    float,
    typer.Option(
        metavar="SHARE", rich_help_panel=_QUANTIZATION,
        help="Of all weights, 0 to 1: layers that keep 8 bits where --weight-bits is less: those that gain most.",
    ),
]  # fmt: skip
Nonuniform = Annotated[
    bool,
    typer.Option(
        "--nonuniform/--uniform", rich_help_panel=_QUANTIZATION,
        help="With 3-, 4- or 6-bit weights: a codebook for every layer that is not clearly better on a uniform grid.",
    ),
]  # fmt: skip
CodebookError = Annotated[
    Literal["weight", "output"],
    typer.Option(rich_help_panel=_QUANTIZATION, help="What a codebook makes least: the error of the weights, or of what the layer gives."),
]
CodebookChannels = Annotated[
    int | None,
    typer.Option(
        min=1, metavar="N", rich_help_panel=_QUANTIZATION,
        help="Output channels that share a codebook, at most; all of a layer unless given.",
    ),
]  # fmt: skip
EqualizationOption = Annotated[
    Equalization,
    typer.Option("--equalization", rich_help_panel=_QUANTIZATION, help="Of channels' ranges. weights: across layers, as DFQ does."),
]
BiasCorrectionOption = Annotated[
    BiasCorrection,
    typer.Option("--bias-correction", rich_help_panel=_QUANTIZATION, help="empirical: from calibration data; analytic: from batch norms."),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--override",
        metavar="GLOB=WHAT",
        rich_help_panel=_QUANTIZATION,
        help="per_tensor, per_channel, float, weight_bits=4, activation_bits=4, requantize=shift, accumulate16=2 or grid=codebook for the "
        "layers that match, or several joined by commas. Repeatable; later ones win.",
    ),
]

Calibration = Annotated[
    Path | None,
    typer.Option(
        "--calibration",
        metavar="FILE",
        rich_help_panel=_CALIBRATION,
        help="A set saved by `tvm-rsq synthesize` (.npz), or real inputs (.npy). Without it, --source and --effort say what is made.",
    ),
]
SourceOption = Annotated[
    Source, typer.Option("--source", rich_help_panel=_CALIBRATION, help="How data is made; gaussian and uniform are noise, as controls.")
]
Seed = Annotated[int, typer.Option(min=0, rich_help_panel=_CALIBRATION, help="Of everything random.")]
Effort = Annotated[
    Literal["instant", "best"],
    typer.Option(
        rich_help_panel=_CALIBRATION,
        help="instant: drawn images set right by batch norms, seconds; best: retro-synthesis, minutes, and below 8 bits learned roundings.",
    ),
]
TimeLimit = Annotated[
    float | None,
    typer.Option(
        metavar="SECONDS", rich_help_panel=_CALIBRATION, help="End synthesis after so long, with the best images so far (effort best)."
    ),
]


def refuse_both(target: str | None, device: object) -> None:
    """BadParameter: a target and a device, which says its own."""
    if target is not None and device is not None:
        raise typer.BadParameter(f"--target {target} and --device say both what to compile for; give --device KEY={target}")


def quant_config(
    *, weight_bits: int = DEFAULTS.weight_bits, activation_bits: int = DEFAULTS.activation_bits, scheme: Scheme = DEFAULTS.scheme,
    budget: float = DEFAULTS.budget, range_method: RangeMethod = DEFAULTS.range_method, overrides: list[str] | None = None,
    levers: str = "auto", requantize: Literal["float", "fixed_point"] = "float", rounding: Rounding = "auto",
    augment: bool = DEFAULTS.augment,
    weight_range: WeightRange = "auto", equalization: Equalization = "auto", bias_correction: BiasCorrection = "auto",
    eight_bit_share: float = DEFAULTS.eight_bit_share, nonuniform: bool = DEFAULTS.nonuniform, average_bits: float | None = None,
    most_divergence: float | None = None, codebook_error: Literal["weight", "output"] = DEFAULTS.codebook_error,
    codebook_channels: int | None = DEFAULTS.codebook_channels, calibration: Path | None = None,
    source: Source = DEFAULTS.synthesis.source, seed: int = DEFAULTS.seed,
    effort: Literal["instant", "best"] = DEFAULTS.effort, **synthesis: object,
) -> QuantConfig:  # fmt: skip
    """The configuration of these options; `synthesis` are fields of SynthesisConfig.

    BadParameter: a value that is not allowed, or a source where --calibration gives the data.
    """
    if calibration is not None and source != DEFAULTS.synthesis.source:
        raise typer.BadParameter(f"--source {source} says how data is made, and --calibration gives it; leave out the one or the other")
    try:
        return QuantConfig(
            weight_bits=weight_bits, activation_bits=activation_bits, scheme=scheme, budget=budget, range_method=range_method,
            overrides=dict(_override(text) for text in overrides or ()), seed=seed, effort=effort, requantize=requantize,
            rounding=rounding, augment=augment, weight_range=weight_range, equalization=equalization, bias_correction=bias_correction,
            eight_bit_share=eight_bit_share, nonuniform=nonuniform, average_bits=average_bits, most_divergence=most_divergence,
            codebook_error=codebook_error, codebook_channels=codebook_channels,
            levers=levers if levers in ("auto", "none") else tuple(name.strip() for name in levers.split(",")),  # type: ignore[arg-type]
            synthesis=SynthesisConfig(source=source, **synthesis),  # type: ignore[arg-type]
        )  # fmt: skip
    except ConfigError as error:
        raise typer.BadParameter(str(error)) from error


def _override(text: str) -> tuple[str, str]:
    """'GLOB=per_channel' or 'GLOB=weight_bits=4' -> (glob, what)."""
    glob, equals, what = text.partition("=")
    if not (equals and glob and what):
        raise typer.BadParameter(f"--override {text!r}, expected 'GLOB=WHAT' such as 'features.0.*=per_channel'")
    return glob, what
