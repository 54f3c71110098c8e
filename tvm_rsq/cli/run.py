"""`tvm-rsq run`: one inference with a compiled artifact."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from tvm_rsq.cli.arrays import read_inputs, write_arrays
from tvm_rsq.cli.paths import writable
from tvm_rsq.cli.session import Session

_TOP = 5


def run(
    session: Session,
    artifact: Annotated[Path, typer.Argument(metavar="ARTIFACT", help="A file that `tvm-rsq compile` wrote.")],
    input_: Annotated[list[Path], typer.Option("--input", "-i", metavar="NPY", help="One per network input, in order.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="NPY|NPZ", callback=writable, help="Write the output; .npz for several.")
    ] = None,
) -> None:
    """Run ARTIFACT on arrays from .npy files.

    Example:  tvm-rsq run net.rsq --input x.npy --output y.npy
    """
    arrays = read_inputs(input_)
    import tvm_rsq

    made = tvm_rsq.load(artifact).run(*arrays)
    outputs = made if isinstance(made, tuple) else (made,)
    if output is not None:
        write_arrays(output, outputs)
    lines = []
    for i, array in enumerate(outputs):
        line = f"output {i}: {array.dtype} {tuple(array.shape)}, {float(array.min()):.5g} to {float(array.max()):.5g}"
        if array.ndim == 2 and len(array) == 1 and array.shape[1] > 1:
            best = array[0].argsort()[::-1][:_TOP]
            line += "; largest " + ", ".join(f"[{k}] {array[0, k]:.5g}" for k in best)
        lines.append(Text(line))
    session.result(
        {
            "artifact": str(artifact),
            "output": None if output is None else str(output),
            "outputs": [{"shape": list(a.shape), "dtype": str(a.dtype), "min": float(a.min()), "max": float(a.max())} for a in outputs],
        },
        *lines,
        *([Text(f"written to {output}")] if output else []),
    )
