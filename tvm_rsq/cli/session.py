"""What every command has in common: --json, -v, -q, --debug, error lines and exit codes.

0  done        1  the work failed (one line, `error: ...`)        2  usage        130  interrupted
"""

from __future__ import annotations

import functools
import inspect
import json
import logging
import math
import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console, RenderableType
from rich.text import Text

from tvm_rsq.atomic_write import atomic_write
from tvm_rsq.cli.interrupts import Interrupts
from tvm_rsq.cli.paths import writable
from tvm_rsq.cli.progress_display import ProgressDisplay
from tvm_rsq.errors import Error

SCHEMA = 1
_PLAIN_WIDTH = 500  # of tables that are piped into a file: no reason is cut off


def _writable_or_stdout(value: str | None) -> str | None:
    if value not in (None, "-"):
        writable(Path(value))
    return value


_COMMON = {
    "json_to": (
        Annotated[
            str | None, typer.Option("--json", metavar="PATH", help="Write the result as JSON; - for stdout.", callback=_writable_or_stdout)
        ],
        None,
    ),
    "verbose": (Annotated[bool, typer.Option("--verbose", "-v", help="Show what the library logs.")], False),
    "quiet": (Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no notes.")], False),
    "debug": (Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")], False),
}


class Session:
    """One run of one command: where its progress, notes and result go."""

    def __init__(self, command: str, json_to: str | None, quiet: bool) -> None:
        self.command = command
        self.quiet = quiet
        self.interrupts = Interrupts(self.note)
        self._json_to = json_to
        self._out = _console(stderr=False)
        self._err = _console(stderr=True)

    @contextmanager
    def progress(self) -> Iterator[ProgressDisplay]:
        """A context that draws progress on stderr. KeyboardInterrupt at its end: the user aborted, whatever the library made of it."""
        with ProgressDisplay(None if self.quiet else self._err, self.interrupts.watch) as display:
            yield display
        self.interrupts.check()

    def note(self, text: str) -> None:
        """One line on stderr."""
        if not self.quiet:
            self._err.print(Text(text), soft_wrap=True)

    def result(self, record: Mapping[str, Any], *shown: RenderableType) -> None:
        """The command's result: `record` where --json says, and `shown` on stdout unless the JSON goes there."""
        text = json.dumps(_finite({"schema": SCHEMA, "command": self.command, **record}), indent=1)
        if self._json_to == "-":
            typer.echo(text)
            return
        if self._json_to:
            with atomic_write(self._json_to) as partial:
                partial.write_text(text + "\n")
        for item in shown:
            self._out.print(item, soft_wrap=isinstance(item, Text))

    @property
    def json_path(self) -> Path | None:
        """The file that the result is to be in as JSON; None: in none, or on stdout."""
        return Path(self._json_to) if self._json_to not in (None, "-") else None

    def interrupted(self) -> NoReturn:
        """The user aborted."""
        self._err.print(Text("interrupted"))
        raise typer.Exit(130) from None

    def fail(self, message: str, code: int = 1) -> NoReturn:
        """One line on stderr, and the end."""
        self._err.print(Text.assemble(("error: ", "bold red"), " ".join(message.split())), soft_wrap=True)
        raise typer.Exit(code)


def command(function: Callable[..., None]) -> Callable[..., None]:
    """Make function(session, ...) a typer command: adds the common options, and turns errors into one line and an exit code."""
    signature = inspect.signature(function, eval_str=True)
    own = list(signature.parameters.values())[1:]
    common = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
        for name, (annotation, default) in _COMMON.items()
    ]

    @functools.wraps(function)
    def run(*, json_to: str | None, verbose: bool, quiet: bool, debug: bool, **arguments: Any) -> None:
        logging.basicConfig(level=logging.INFO if verbose else logging.ERROR, format="%(name)s: %(message)s")
        session = Session(function.__name__.strip("_"), json_to, quiet)
        try:
            with session.interrupts, warnings.catch_warnings():
                if not verbose:
                    warnings.simplefilter("ignore")  # torch's and TVM's advice to programmers
                function(session, **arguments)
        except KeyboardInterrupt:
            if debug:
                raise
            session.interrupted()
        except BrokenPipeError:
            raise  # the reader of our stdout went away: typer ends quietly
        except (Error, OSError, MemoryError, RuntimeError) as error:
            if debug:
                raise
            if session.interrupts.aborted:  # raised inside a callback of TVM's, which made another error of it
                session.interrupted()
            if isinstance(error, RuntimeError) and not isinstance(error, Error):
                raise
            session.fail(_message(error))

    run.__signature__ = signature.replace(parameters=[p.replace(kind=p.KEYWORD_ONLY) for p in own] + common)  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in [*own, *common]}
    return run


def _message(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename is not None else error.strerror
    if isinstance(error, MemoryError):
        return f"out of memory ({error})" if str(error) else "out of memory"
    return str(error) or type(error).__name__


def _console(*, stderr: bool) -> Console:
    console = Console(stderr=stderr, highlight=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = _PLAIN_WIDTH
    return console


def _finite(value: Any) -> Any:
    """JSON has no NaN and no infinity: null."""
    if isinstance(value, Mapping):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
