"""The fenced blocks of a Markdown page: what is to be run, what was printed, and what is neither."""

from __future__ import annotations

import re
import shlex
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Kind = Literal["bash", "python", "output", "text"]
_FENCE = re.compile(r"^ *```(\w*)\s*$")  # also inside a list
_NOT_RUN = re.compile(r"^ *<!-- not run: (.+) -->$")
_SHOWN = ("", "text")  # languages of what was printed
_READ = ("c", "json", "text", "")  # and of what is only read


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """first, last  line numbers of its text, from 0: lines[first:last]
    not_run  why it is not run where pages are tested, from the comment above it; "" for most
    """

    page: Path
    kind: Kind
    text: str
    first: int
    last: int
    not_run: str = ""

    @property
    def place(self) -> str:
        return f"{self.page.name}:{self.first}"


def blocks(page: Path) -> list[Block]:
    """In order.   ValueError: a fence that is never closed, or of a language that nothing is known of, with its line."""
    lines, found = page.read_text("utf-8").splitlines(), list[Block]()
    opened: int | None = None
    language = ""
    for number, line in enumerate(lines):
        fence = _FENCE.match(line)
        if fence is None:
            continue
        if opened is None:
            opened, language = number, fence[1]
            continue
        text = textwrap.dedent("\n".join(lines[opened + 1 : number]))
        kind = _kind(language, lines, opened, found, page)
        found.append(Block(page=page, kind=kind, text=text, first=opened + 1, last=number, not_run=_reason(lines, opened)))
        opened = None
    if opened is not None:
        raise ValueError(f"{page.name}:{opened + 1} opens a block that is never closed")
    return found


def commands(text: str) -> list[tuple[str, list[str]]]:
    """Each command of a bash block, as a line and as words without comments: lines continued by a backslash are joined."""
    joined = text.replace("\\\n", " ").splitlines()
    return [(line, words) for line in joined if (words := shlex.split(line, comments=True))]


def _kind(language: str, lines: Sequence[str], opened: int, found: list[Block], page: Path) -> Kind:
    if language in ("bash", "python"):
        return language  # type: ignore[return-value]
    if language in _SHOWN and found and found[-1].kind in ("bash", "python") and not "".join(lines[found[-1].last + 1 : opened]).strip():
        return "output"
    if language not in _READ:
        raise ValueError(f"{page.name}:{opened + 1} has a block of {language}, expected bash, python, {', '.join(filter(None, _READ))}")
    return "text"


def _reason(lines: Sequence[str], opened: int) -> str:
    marked = _NOT_RUN.match(lines[opened - 1]) if opened else None
    return marked[1] if marked else ""
