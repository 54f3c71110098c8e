"""Append-only files of one JSON value a line, which survive a process that was killed while it wrote, and several that write at once."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Generic, TypeVar

from tvm_rsq.errors import ConfigError

T = TypeVar("T")

_SHOWN = 80  # characters of a line in an error
_BLOCK = 1 << 16


class LineReader(Generic[T]):
    """Reads a file bit by bit, as others append to it.

    parse  a line's value -> what it means.   ValueError: "expected ...", where it means nothing
    """

    def __init__(self, path: Path, parse: Callable[[Any], T]) -> None:
        self._path, self._parse = path, parse
        self._offset = self._lines = 0

    def read(self, file: BinaryIO) -> list[T]:
        """What the lines say that were added since the last call, in order. What a killed writer left behind the last newline is no line.
        ConfigError: a line that is not JSON, or not what is expected.
        """
        if file.seek(0, os.SEEK_END) < self._offset:  # someone made it anew
            self._offset = self._lines = 0
        file.seek(self._offset)
        data = file.read()
        whole = data[: data.rfind(b"\n") + 1]
        values = [self._value(self._lines + i, line) for i, line in enumerate(whole.splitlines(), 1)]
        self._offset += len(whole)
        self._lines += len(values)
        return values

    def _value(self, number: int, line: bytes) -> T:
        text = " ".join(line.decode(errors="replace").split())
        place = f"{self._path}, line {number} is {text if len(text) <= _SHOWN else text[: _SHOWN - 4] + ' ...'}"
        try:
            value = json.loads(line)
        except ValueError as error:
            raise ConfigError(f"{place}, expected JSON ({error}); remove that line, or the file") from error
        try:
            return self._parse(value)
        except ValueError as error:
            raise ConfigError(f"{place}, {error}; remove that line, or the file") from error


def read_lines(path: Path, parse: Callable[[Any], T]) -> list[T]:
    """What the lines say, in order; nothing where there is no file.   ConfigError: as LineReader."""
    if not path.exists():
        return []
    with path.open("rb") as file:
        return LineReader(path, parse).read(file)


@contextmanager
def open_locked(path: Path) -> Iterator[BinaryIO]:
    """The file, made where it is missing, for one process at a time and without a torn last line.   OSError: it cannot be written."""
    with path.open("a+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        _cut(file)
        yield file


def write_line(file: BinaryIO, value: Any) -> None:
    """Write one line, at once."""
    file.write(json.dumps(value, sort_keys=True).encode() + b"\n")
    file.flush()


def repair(path: Path) -> None:
    """Remove a torn last line, for readers that are not ours."""
    if path.exists():
        with open_locked(path):
            pass


def _cut(file: BinaryIO) -> None:
    """Truncate behind the last newline, found from the end: the file may be long."""
    size = end = file.seek(0, os.SEEK_END)
    while end > 0:
        begin = max(0, end - _BLOCK)
        file.seek(begin)
        found = file.read(end - begin).rfind(b"\n")
        if found >= 0:
            end = begin + found + 1
            break
        end = begin
    if end < size:
        file.truncate(end)
