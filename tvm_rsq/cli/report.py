"""`tvm-rsq report`: the page of a compiled artifact, or of several side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from tvm_rsq.cli.paths import writable
from tvm_rsq.cli.session import Session
from tvm_rsq.errors import ArtifactError
from tvm_rsq.report import formats

if TYPE_CHECKING:
    from tvm_rsq.compiled_module import CompiledModule
    from tvm_rsq.report.comparison import Build
    from tvm_rsq.report.data import ReportData
    from tvm_rsq.report.measured import Measured


def report(
    session: Session,
    artifacts: Annotated[
        list[Path], typer.Argument(metavar="ARTIFACT...", help="Files that `tvm-rsq compile` wrote; several are compared with the first.")
    ],
    measured: Annotated[
        list[Path] | None,
        typer.Option("--measured", metavar="JSON", help="Adds what `bench`, on boards too, or `evaluate` wrote with --json. Repeatable."),
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="HTML", callback=writable, help="The page.")] = Path("report.html"),
) -> None:
    """Write the report that ARTIFACT carries as one self-contained page; those of several, side by side.

    Example:  tvm-rsq report net.rsq -o report.html; tvm-rsq report a.rsq b.rsq c.rsq --measured bench.json -o compare.html
    """
    files = measured or []
    record = _one(artifacts[0], files, output) if len(artifacts) == 1 else _several(artifacts, files, output)
    size = output.stat().st_size
    session.result({**record, "output": str(output)}, Text(f"{output}: {formats.size(size)}"))


def _one(artifact: Path, files: Sequence[Path], output: Path) -> dict[str, Any]:
    import tvm_rsq
    from tvm_rsq.report import page
    from tvm_rsq.report.measured import Artifact, adopt, read_measured

    module = tvm_rsq.load(artifact, to_run=False)
    data = module.report
    if data is None:
        raise ArtifactError(f"{artifact} carries no report, expected a quantized build; compile the network again")
    (found,) = read_measured(files, [Artifact(artifact, module.contents.digest)])
    data = adopt(data, found)
    page.write(data, output)
    return {"artifact": str(artifact), "report": _record(data)}


def _several(artifacts: Sequence[Path], files: Sequence[Path], output: Path) -> dict[str, Any]:
    import tvm_rsq
    from tvm_rsq.report.comparison_page import write_comparison
    from tvm_rsq.report.labels import distinct_labels
    from tvm_rsq.report.measured import Artifact, read_measured

    try:
        labels = distinct_labels(artifacts)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    modules = [tvm_rsq.load(artifact, to_run=False) for artifact in artifacts]
    named = [Artifact(artifact, module.contents.digest) for artifact, module in zip(artifacts, modules, strict=True)]
    found = read_measured(files, named)
    builds = [_build(*parts) for parts in zip(artifacts, labels, modules, found, strict=True)]
    write_comparison(builds, output)
    listed = [
        {
            "artifact": str(artifact), "label": build.label, "network": build.network, "target": build.target, "bytes": build.file_bytes,
            "report": None if build.report is None else _record(build.report),
        }
        for artifact, build in zip(artifacts, builds, strict=True)
    ]  # fmt: skip
    return {"artifacts": listed}


def _build(artifact: Path, label: str, module: CompiledModule, measured: Measured) -> Build:
    from tvm_rsq.report.comparison import Build
    from tvm_rsq.report.data import ReportData
    from tvm_rsq.report.measured import adopt

    data, network = module.report, module.contents.name
    if data is None and module.plan is not None:
        data = ReportData(network=network, target=module.target, plan=module.plan)
    report = None if data is None else adopt(data, measured)
    size = artifact.stat().st_size
    return Build(label=label, network=network, target=module.target, file_bytes=size, report=report, measured=measured)


def _record(data: ReportData) -> dict[str, Any]:
    from tvm_rsq.report import serialise

    return {k: v for k, v in serialise.to_dict(data).items() if k not in ("schema", "images")}
