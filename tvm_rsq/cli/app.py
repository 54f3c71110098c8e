"""The `tvm-rsq` program: its commands in the order of a user's day."""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated

import typer

from tvm_rsq.cli.bench import bench
from tvm_rsq.cli.compile import compile_
from tvm_rsq.cli.devices import devices
from tvm_rsq.cli.evaluate import evaluate
from tvm_rsq.cli.export_c import export_c
from tvm_rsq.cli.quantize import quantize
from tvm_rsq.cli.report import report
from tvm_rsq.cli.run import run
from tvm_rsq.cli.serve import serve
from tvm_rsq.cli.session import command
from tvm_rsq.cli.synthesize import synthesize
from tvm_rsq.cli.targets import targets
from tvm_rsq.cli.tracker import tracker
from tvm_rsq.cli.tune import tune

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, context_settings={"help_option_names": ["-h", "--help"]})


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"tvm-rsq {version('tvm-rsq')}")
        raise typer.Exit


@app.callback()
def _program(
    _wanted: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")] = False,
) -> None:
    """Quantize a trained network without data, and compile it to an integer-only library."""


for _function in (compile_, tune, run, bench, evaluate, report, export_c, quantize, synthesize, targets, serve, tracker, devices):
    app.command(_function.__name__.strip("_").replace("_", "-"))(command(_function))


def main() -> None:
    """Entry point of the program."""
    app(prog_name="tvm-rsq")
