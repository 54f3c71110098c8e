"""Append-only files of one JSON value a line, which survive a process that was killed while it wrote."""

from __future__ import annotations

import fcntl
import json
from pathlib import Path
from typing import Any

from tvm_rsq.errors import ConfigError


def read_lines(path: Path) -> list[Any]:
    """The values in order; nothing where there is no file. What a killed writer left behind the last newline is not a line.
    ConfigError: a line that is not JSON.
    """
    if not path.exists():
        return []
    values = []
    for number, line in enumerate(_whole(path.read_bytes()).splitlines(), 1):
        try:
            values.append(json.loads(line))
        except ValueError as error:
            raise ConfigError(f"{path}, line {number} is not JSON ({error}); remove that line, or take another file") from error
    return values


def append_line(path: Path, value: Any) -> None:
    """Write one line, also where several processes write; a torn last line is removed first."""
    with path.open("a+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        _cut(file)
        file.write(json.dumps(value, sort_keys=True).encode() + b"\n")
        file.flush()


def repair(path: Path) -> None:
    """Remove a torn last line, for readers that are not ours.   ConfigError: as `read_lines`."""
    if path.exists():
        read_lines(path)
        with path.open("r+b") as file:
            _cut(file)


def _cut(file: Any) -> None:
    file.seek(0)
    data = file.read()
    if len(whole := _whole(data)) < len(data):
        file.truncate(len(whole))


def _whole(data: bytes) -> bytes:
    return data[: data.rfind(b"\n") + 1]
