"""What was tried and what survived, kept: one row for each experiment in a JSON file, and the page that is made of all of them."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path

import tvm_rsq
from scripts.peers.machine import machine_facts
from scripts.survival.page import page
from tvm_rsq.atomic_write import atomic_write
from tvm_rsq.errors import ConfigError

SCHEMA = 1
ROOT = Path(__file__).resolve().parents[2]
JSON, PAGE = Path("measurements", "reliability.json"), Path("reliability.md")  # in the folder of documents

Figure = str | int | float


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One experiment.

    tried, survived  how many cases there were, and how many ended as they should
    figures          what else was measured, by what it is called
    about            what a case is, and what counts as survived, in a sentence or two
    command          that made the row; seed: of its cases
    machine, version, commit  that it was made on and with
    """

    experiment: str
    tried: int
    survived: int
    figures: Mapping[str, Figure]
    about: str
    command: str
    seed: int | None
    date: str
    machine: str
    version: str
    commit: str


def record(
    experiment: str, tried: int, survived: int, figures: Mapping[str, Figure], *, about: str = "", command: str = "",
    seed: int | None = None, docs: Path = ROOT / "docs",
) -> Row:  # fmt: skip
    """Keep a row in place of the experiment's last one, and make the page again. Several may do so at once.

    docs  the folder that holds both files
    ConfigError: the JSON file holds something else. OSError: the file system refuses.
    """
    facts = machine_facts(())
    row = Row(
        experiment=experiment, tried=tried, survived=survived, figures=dict(figures), about=about, command=command, seed=seed,
        date=str(date.today()), machine=f"{facts['cpu']}, {facts['cores']} cores", version=tvm_rsq.__version__, commit=_commit(),
    )  # fmt: skip
    path = docs / JSON
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        rows = {**{known.experiment: known for known in read_rows(path)}, experiment: row}
        with atomic_write(path) as partial:
            partial.write_text(json.dumps({"schema": SCHEMA, "rows": [asdict(each) for each in rows.values()]}, indent=1) + "\n", "utf-8")
        with atomic_write(docs / PAGE) as partial:
            partial.write_text(page(tuple(rows.values())), "utf-8")
    finally:
        os.close(folder)
    return row


def read_rows(path: Path) -> list[Row]:
    """Those in a file that `record` wrote; none where there is no file.   ConfigError: it holds something else."""
    if not path.is_file():
        return []
    try:
        found = json.loads(path.read_text("utf-8"))
        if found["schema"] != SCHEMA:
            raise ValueError(f"schema {found['schema']}")
        return [Row(**row) for row in found["rows"]]
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path} holds no rows of experiments ({error}); remove it") from error


def _commit() -> str:
    """Of the checkout, with a plus where files differ from it."""
    try:
        told = subprocess.run(["git", "describe", "--always", "--dirty=+"], cwd=ROOT, capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return told.stdout.strip()
