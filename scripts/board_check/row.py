"""Row: whether one network answers on one board as it does here; and the file that keeps the rows of a run."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tvm_rsq.atomic_write import atomic_write
from tvm_rsq.errors import ConfigError

SCHEMA = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """network, way  see subject.Subject
    board, target  the key of the board, and what the library for it was compiled for
    macs       multiply-accumulates of one inference
    islands    operators that are computed in float
    inputs     that were run
    outputs    values of the network's outputs that were compared, of all inputs together
    tensors    stored tensors that were compared; None: the outputs alone
    levels     values in them, of all inputs together
    saturated  fraction of these at the top of their range on the last input, whose values are beyond what was calibrated
    wrong      what differs first; None: every bit is equal
    """

    network: str
    way: str
    board: str
    target: str
    macs: int = 0
    islands: tuple[str, ...] = ()
    inputs: int = 0
    outputs: int = 0
    tensors: int | None = None
    levels: int | None = None
    saturated: float | None = None
    wrong: str | None = None

    @property
    def key(self) -> tuple[str, str, str]:
        return self.network, self.way, self.board

    def compared_for(self, most_gmacs: float) -> bool:
        """Whether stored tensors were compared, if they are to be where a network has so many GMACs at most."""
        return self.tensors is not None or self.macs > most_gmacs * 1e9


def write_rows(path: Path, facts: Mapping[str, Any], rows: Sequence[Row]) -> None:
    """{"schema": 1, **facts, "rows": [...]}, atomically."""
    with atomic_write(path) as partial:
        partial.write_text(json.dumps({"schema": SCHEMA, **facts, "rows": [asdict(row) for row in rows]}, indent=1) + "\n", "utf-8")


def rows_of(path: Path, source: str) -> list[Row]:
    """The rows in a file that are of this `source`, by which "facts" tells code apart, and in order.   ConfigError: it is no such file"""
    if not path.is_file() or not path.stat().st_size:
        return []
    try:
        record = json.loads(path.read_text("utf-8"))
        if record["schema"] != SCHEMA:
            raise ValueError(f"schema {record['schema']}")
        rows = [Row(**{**row, "islands": tuple(row["islands"])}) for row in record["rows"]]
        return [row for row in rows if row.wrong is None] if record["source"] == source else []
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path} holds no rows of this check ({error}); name another file, or remove it") from error
