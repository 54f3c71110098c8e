"""Row: one count, and the document that holds all of a run. A document is also what later runs are compared with."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import tvm

SCHEMA = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Instructions of one kernel, of a sum of several, or of one iteration of a kernel's innermost loop.

    kernel        what was counted, as its library calls it
    instructions  executed by the kernel's own code, not by the C library that it calls; work: in `unit`, of the same call or iteration
    stack         instructions of a loop that touch the stack; None where calls were counted
    """

    target: str
    name: str
    kernel: str
    instructions: int
    work: int
    unit: str
    stack: int | None = None

    @property
    def per_work(self) -> float:
        return self.instructions / self.work


class BaselineError(Exception):
    """A file of counts that cannot be compared with; the message is one line and says what to do."""


def document(rows: Sequence[Row]) -> dict[str, Any]:
    """JSON values: {"schema", "tvm": version, "rows": [...]}."""
    return {"schema": SCHEMA, "tvm": tvm.__version__, "rows": [asdict(row) for row in rows]}


def read_document(path: Path) -> tuple[str, tuple[Row, ...]]:
    """(TVM's version, rows).   BaselineError: it cannot be read, or is no such document."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if values["schema"] != SCHEMA:
            raise BaselineError(f"{path} has schema {values['schema']}, expected {SCHEMA}; write it again with --json")
        return str(values["tvm"]), tuple(Row(**row) for row in values["rows"])
    except OSError as error:
        raise BaselineError(f"{path}: {error.strerror}; name a file that --json wrote") from error
    except (ValueError, KeyError, TypeError) as error:
        raise BaselineError(f"{path} holds no counts ({type(error).__name__}: {error}); write it again with --json") from error
