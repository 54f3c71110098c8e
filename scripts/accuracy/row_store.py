"""Rows that are done, one JSON line each: what an interrupted run goes on from."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path

from scripts.accuracy.case import Case
from scripts.accuracy.row import SCHEMA, Evaluated, Row, SchemaError
from tvm_rsq.atomic_write import atomic_write

Key = tuple[Case, Evaluated]


class RowStore:
    """The rows in a file. One that says why there is none is not kept: the reason may be gone."""

    def __init__(self, path: Path) -> None:
        """SchemaError: a line that is no row of this version. A last line without its end is one that was not finished, and left out."""
        self.path = path
        self.rows: dict[Key, Row] = {}
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
        whole = text[: text.rfind("\n") + 1]
        for number, line in enumerate(whole.splitlines(), start=1):
            row = _read(line, f"{path}, line {number}")
            self.rows[row.case, row.evaluated] = row
        if whole != text:
            self._rewrite()

    def get(self, case: Case, evaluated: Evaluated) -> Row | None:
        return self.rows.get((case, evaluated))

    def add(self, row: Row) -> None:
        """In one write, at the end of the file."""
        if row.unsupported:
            return
        self.rows[row.case, row.evaluated] = row
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab", buffering=0) as file:
            file.write(_line(row).encode())
            os.fsync(file.fileno())

    def drop(self, keys: Iterable[Key]) -> None:
        """Forget these rows, so that they are measured again."""
        dropped = set(keys) & self.rows.keys()
        if dropped:
            self.rows = {key: row for key, row in self.rows.items() if key not in dropped}
            self._rewrite()

    def _rewrite(self) -> None:
        with atomic_write(self.path) as partial:
            partial.write_text("".join(map(_line, self.rows.values())), encoding="utf-8")


def _line(row: Row) -> str:
    return json.dumps({"schema": SCHEMA, **row.record()}) + "\n"


def _read(line: str, where: str) -> Row:
    try:
        record = json.loads(line)
        if record["schema"] != SCHEMA:
            raise SchemaError(f"{where} has schema {record['schema']}, this version reads {SCHEMA}; remove the file")
        return Row.of(record)
    except (ValueError, KeyError, TypeError) as error:
        raise SchemaError(f"{where} is no row ({error!r}); remove the line") from error
