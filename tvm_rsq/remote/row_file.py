"""The JSON file of a fleet benchmark: every row is in it as soon as it is measured, and a second run goes on where the first was."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tvm_rsq.atomic_write import atomic_write
from tvm_rsq.errors import ConfigError
from tvm_rsq.report.data import DeviceRow
from tvm_rsq.report.serialise import device_row

SCHEMA = 1


class RowFile:
    """Rows in {"schema": 1, "command": "bench", "rows": [...]}: the last one of a network, device, target, build and measure counts.

    path  None: rows are kept in memory alone
    ConfigError: the file holds something else.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._rows: dict[tuple[Any, ...], DeviceRow] = {}
        if path is not None and path.is_file() and path.stat().st_size:
            for row in _read(path):
                self._rows[_key(row)] = row

    @property
    def rows(self) -> list[DeviceRow]:
        return list(self._rows.values())

    def known(self, wanted: DeviceRow, repeat: int) -> DeviceRow | None:
        """What was measured of this very library on that device, whole; None otherwise.   repeat: latencies that are wanted"""
        found = self._rows.get(_key(wanted))
        if found is None or found.artifact != wanted.artifact or found.threads != wanted.threads or found.error is not None:
            return None
        return found if found.measure != "time" or len(found.latency_us or ()) >= repeat else None

    def keep(self, row: DeviceRow) -> None:
        """Write the row, atomically, at once.   OSError: the file system refuses."""
        self._rows[_key(row)] = row
        if self._path is not None:
            with atomic_write(self._path) as partial:
                partial.write_text(json.dumps({"schema": SCHEMA, "command": "bench", **self.record()}, indent=1) + "\n")

    def record(self) -> dict[str, Any]:
        """What the file holds beside its schema."""
        return {"rows": [asdict(row) for row in self.rows]}


def _read(path: Path) -> list[DeviceRow]:
    try:
        record = json.loads(path.read_text())
        if record["schema"] != SCHEMA:
            raise ValueError(f"schema {record['schema']}")
        return [device_row(row) for row in record["rows"]]
    except (ValueError, KeyError, TypeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} holds no rows of a benchmark on devices ({error}); name another file, or remove it") from error


def _key(row: DeviceRow) -> tuple[Any, ...]:
    return row.network, row.device, row.target, row.build, row.measure
