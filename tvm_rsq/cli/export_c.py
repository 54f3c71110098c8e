"""`tvm-rsq export-c`: an artifact as a folder for C and C++."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from tvm_rsq.cli.session import Session


def export_c(
    session: Session,
    artifact: Annotated[Path, typer.Argument(metavar="ARTIFACT", help="A file that `tvm-rsq compile` wrote.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="The folder, which is made.")],
    force: Annotated[bool, typer.Option("--force", help="Replace the files of an earlier export; yours are left alone.")] = False,
) -> None:
    """Write ARTIFACT as a shared library, a C header, a C++ runner and a Makefile, which need TVM's runtime and no Python.

    Example:  tvm-rsq export-c net.rsq -o deploy && make -C deploy
    """
    import tvm_rsq
    from tvm_rsq.report import formats

    files = tvm_rsq.load(artifact, to_run=False).export_c(output, replace=force)
    lines = [Text(f"{output / path.name}: {formats.size(path.stat().st_size)}") for path in files]
    session.result({"artifact": str(artifact), "output": str(output), "files": [path.name for path in files]}, *lines)
