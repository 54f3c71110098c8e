"""docs/reliability.md: the rows of all experiments as a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scripts.survival.record import Row

_INTRODUCTION = """# Reliability

What was done to this compiler on purpose, how often, and how often it survived. Written by the scripts that measured it
(`scripts/reliability`, `scripts/fuzz`), from [measurements/reliability.json](measurements/reliability.json).

A checksum tells damage, not malice: whoever writes an artifact can write its checksums, too, and an artifact holds machine code, so load
those of people you trust. A `.pt2` file is a program, which torch evaluates while it reads it; pickled objects and machine code in
one are refused, but only an `.onnx` file is data alone.
"""


def page(rows: Sequence[Row]) -> str:
    """Markdown: a table, and a section for each row."""
    table = ["| experiment | tried | survived | date |", "| --- | ---: | ---: | --- |"]
    table += [f"| [{row.experiment}](#{_anchor(row.experiment)}) | {row.tried:,} | {row.survived:,} | {row.date} |" for row in rows]
    return "\n".join([_INTRODUCTION, *table, "", *(line for row in rows for line in _section(row))])


def _section(row: Row) -> list[str]:
    made = [f"`{row.command}`"] if row.command else []
    made += [f"seed {row.seed}"] if row.seed is not None else []
    made += [row.machine, f"version {row.version}" + (f" at {row.commit}" if row.commit else "")]
    about = [row.about, ""] if row.about else []
    return [f"## {row.experiment}", "", *about, *_figures(row.figures), "", f"{'; '.join(made)}; {row.date}.", ""]


def _figures(figures: Mapping[str, str | int | float]) -> list[str]:
    return [f"- {name}: {_number(value)}" for name, value in figures.items()]


def _number(value: str | int | float) -> str:
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else value


def _anchor(title: str) -> str:
    """As GitHub makes one of a heading."""
    return "".join(c for c in title.lower().replace(" ", "-") if c.isalnum() or c in "-_")
