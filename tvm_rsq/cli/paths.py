"""Paths that a command will write to, checked before minutes of work."""

from __future__ import annotations

import os
from pathlib import Path

import typer

from tvm_rsq.atomic_write import takes_files


def refuse_overwriting(output: Path | None, model: str) -> None:
    """BadParameter: `output` is the file that the network is read from."""
    if output is not None and output.exists() and Path(model).exists() and output.samefile(model):
        raise typer.BadParameter(f"{output} is the network itself; name another file for the output")


def writable(path: Path | None) -> Path | None:
    """`path` itself. BadParameter: it is a directory, or its folder is missing or not writable. Usable as a typer callback."""
    if path is None:
        return None
    folder = path.absolute().parent
    if path.is_dir():
        raise typer.BadParameter(f"{path} is a directory, expected a file name")
    if not folder.is_dir():
        raise typer.BadParameter(f"{folder} is not a directory; make it first")
    if not os.access(folder, os.W_OK) or not (path.exists() or takes_files(folder)):
        raise typer.BadParameter(f"{folder} is not writable")
    return path
