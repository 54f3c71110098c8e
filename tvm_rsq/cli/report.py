"""`tvm-rsq report`: the page of a compiled artifact."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from tvm_rsq.cli.paths import writable
from tvm_rsq.cli.session import Session
from tvm_rsq.errors import ArtifactError
from tvm_rsq.report import formats


def report(
    session: Session,
    artifact: Annotated[Path, typer.Argument(metavar="ARTIFACT", help="A file that `tvm-rsq compile` wrote.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="HTML", callback=writable, help="The page.")] = Path("report.html"),
) -> None:
    """Write the report that ARTIFACT carries as one self-contained page.

    Example:  tvm-rsq report net.rsq -o report.html
    """
    import tvm_rsq
    from tvm_rsq.report import page, serialise

    data = tvm_rsq.load(artifact, to_run=False).report
    if data is None:
        raise ArtifactError(f"{artifact} carries no report, expected a quantized build; compile the network again")
    page.write(data, output)
    size = output.stat().st_size
    record = {k: v for k, v in serialise.to_dict(data).items() if k not in ("schema", "images")}
    session.result({"artifact": str(artifact), "output": str(output), "report": record}, Text(f"{output}: {formats.size(size)}"))
