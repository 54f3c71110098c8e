"""The command line of `scripts/reproduce_accuracy`."""

from __future__ import annotations

import importlib.util
import json
import shlex
import sys
from argparse import Namespace
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import tvm_rsq
from scripts.accuracy.markdown import page
from scripts.accuracy.measure import Settings
from scripts.accuracy.methods import METHODS
from scripts.accuracy.options import cases, parse
from scripts.accuracy.row import Row, SchemaError, document, read_document
from scripts.accuracy.run import calibrations, rows
from scripts.models.fetch import FetchError
from scripts.models.labelled_folder import LabelledFolderError
from scripts.output_file import check_writable
from scripts.peers.build import PeerError
from scripts.peers.machine import machine_facts
from tvm_rsq.atomic_write import atomic_write
from tvm_rsq.threads import use_threads

_PACKAGES = ("apache-tvm", "torch", "onnxruntime", "nncf", "openvino")


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0 done, 1 failed, 130 interrupted; argparse's own 2 for wrong usage."""
    options = parse(arguments)
    try:
        for path in filter(None, (options.json, options.markdown)):
            check_writable(path)
        facts, found = _read(options.show) if options.show else _measured(options, sys.argv[1:] if arguments is None else arguments)
        if options.only_calibrations:
            return 0
        text = page(facts, found)
        print(text, end="")
        _write(options.json, json.dumps(document(facts, found), indent=1) + "\n")
        _write(options.markdown, text)
        if found and all(row.unsupported for row in found):
            print("error: none of the rows exists; the reasons are above", file=sys.stderr)
            return 1
    except (tvm_rsq.Error, FetchError, LabelledFolderError, PeerError, SchemaError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"interrupted; rows that were done are kept in {options.work_dir} for the next run", file=sys.stderr)
        return 130
    return 0


def _read(paths: Sequence[Path]) -> tuple[dict[str, Any], tuple[Row, ...]]:
    """All rows of some results, of equal ones the last, under the facts of the last and the commands of all."""
    facts: dict[str, Any] = {}
    commands: list[str] = []
    last: dict[Any, Row] = {}
    for path in paths:
        facts, found = read_document(path.read_text(encoding="utf-8"), str(path))
        commands.append(str(facts.get("command")))
        last |= {(row.case, row.evaluated.labelled, row.evaluated.samples): row for row in found}
    return facts | {"command": "\n".join(dict.fromkeys(commands))}, tuple(last.values())


def _measured(options: Namespace, arguments: Sequence[str]) -> tuple[dict[str, Any], tuple[Row, ...]]:
    wanted = cases(options)
    if not wanted:
        raise tvm_rsq.ConfigError("no row has these networks, bits, methods, schemes and sources together; name others, or --table full")
    needed = {package for case in wanted for package in METHODS[case.method].packages}
    if missing := sorted(package for package in needed if importlib.util.find_spec(package) is None):
        install = "run: .venv/bin/pip install -c constraints.txt -e '.[peers]'"
        raise PeerError(f"{' and '.join(missing)} not installed; {install}, or name --methods without them")
    use_threads()
    options.work_dir.mkdir(parents=True, exist_ok=True)
    settings = Settings(
        work_dir=options.work_dir, photos=options.photos, samples=options.samples, calibrations_from=tuple(options.calibrations_from)
    )
    facts = {
        "command": shlex.join(["scripts/reproduce_accuracy", *arguments]), "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "machine": machine_facts(_PACKAGES),
    }  # fmt: skip
    if options.only_calibrations:
        calibrations(wanted, settings, jobs=options.jobs)
        return facts, ()
    return facts, rows(wanted, settings, jobs=options.jobs, redo=options.redo)


def _write(path: Path | None, text: str) -> None:
    if path is not None:
        with atomic_write(path) as partial_file:
            partial_file.write_text(text, encoding="utf-8")
