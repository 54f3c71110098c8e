"""`tvm-rsq synthesize`: calibration data from the network alone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from tvm_rsq.cli import options
from tvm_rsq.cli.model_argument import read_model
from tvm_rsq.cli.paths import writable
from tvm_rsq.cli.session import Session


def _output(path: Path) -> Path:
    """BadParameter: neither .npz nor .npy, which `--calibration` could not read back, or not writable."""
    if path.suffix not in (".npz", ".npy"):
        raise typer.BadParameter(f"{path} ends in neither .npz nor .npy; name such a file")
    writable(path)
    return path


def synthesize(
    session: Session,
    model: options.ModelArgument,
    output: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="FILE", callback=_output, help=".npz for `--calibration`, or .npy for other tools."),
    ],
    images: Annotated[int | None, typer.Option(min=1, help="How many inputs to make. Default: chosen for the network.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Optimiser steps. Default: chosen for the network.")] = None,
    source: options.SourceOption = options.DEFAULTS.synthesis.source,
    batch: options.Batch = None,
    seed: options.Seed = 0,
    effort: options.Effort = "best",
    time_limit: options.TimeLimit = None,
) -> None:
    """Make calibration data for MODEL from its own statistics.

    Example:  tvm-rsq synthesize net.onnx -o calibration.npz --images 16 --time-limit 60
    """
    config = options.quant_config(seed=seed, effort=effort, images=images, steps=steps, source=source, time_limit_s=time_limit)
    network = read_model(model)
    import tvm_rsq

    with session.progress() as progress:
        made = tvm_rsq.synthesize(
            network.model, config.synthesis, example_inputs=network.example_inputs, seed=seed, effort=effort, batch=batch,
            progress=progress.event, should_stop=session.interrupts.should_stop,
        )  # fmt: skip
    files: tuple[Path, ...] = (output,)
    if output.suffix == ".npy":
        files = made.save_npy(output)
    else:
        made.save(output)
    for note in made.notes:
        session.note(f"note: {note}")
    last = dict(made.loss_curve[-1]) if made.loss_curve else {}
    loss = f", loss {', '.join(f'{name} {value:.3g}' for name, value in last.items())}" if last else ""
    session.result(
        {
            "output": str(output), "files": [str(file) for file in files], "source": made.source, "seed": made.seed, "samples": len(made),
            "shapes": [list(array.shape) for array in made.inputs], "steps": len(made.loss_curve), "final_loss": last,
            "network_hash": made.network_hash, "notes": made.notes, "seconds": progress.seconds,
        },
        Text(f"{', '.join(map(str, files))}: {len(made)} inputs, {made.source}{loss}"),
    )  # fmt: skip
