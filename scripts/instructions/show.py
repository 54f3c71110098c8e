"""Counts and what became of them, for people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.table import Table

from scripts.instructions.comparison import Comparison, change
from scripts.instructions.row import Row


def rows_table(rows: Sequence[Row]) -> Table:
    loops = any(row.stack is not None for row in rows)
    table = Table(title="one iteration of the innermost loop" if loops else "one call on one thread", title_justify="left")
    for name in ("target", "layer", "kernel"):
        table.add_column(name, overflow="fold")
    for name in ("instructions", "per work", *(["on the stack"] if loops else [])):
        table.add_column(name, justify="right")
    table.add_column("work")
    for row in rows:
        stack = [str(row.stack)] if loops else []
        table.add_row(row.target, row.name, row.kernel, f"{row.instructions:,}", f"{row.per_work:.4f}", *stack, row.unit)
    return table


def comparison_lines(found: Comparison, tolerance: float) -> Iterator[tuple[str, str]]:
    """(style, line): what grew, what shrank, what has no counterpart, and a verdict."""
    for row, before in found.grown:
        yield "bold red", f"grew    {_change(row, before)}"
    for row, before in found.shrunk:
        yield "green", f"shrank  {_change(row, before)}"
    for row in found.new:
        yield "yellow", f"new     {row.target}: {row.name}"
    if found.missing:
        names = ", ".join(f"{row.target}: {row.name}" for row in found.missing[:3])
        yield "yellow", f"not counted this time: {len(found.missing)} of the baseline ({names}{', ...' if len(found.missing) > 3 else ''})"
    if found.grown:
        yield "bold red", f"{len(found.grown)} grew by more than {tolerance:.1%}, or touch the stack more often"
    else:
        yield "", f"none grew by more than {tolerance:.1%}"


def _change(row: Row, before: Row) -> str:
    kernel = row.kernel if row.kernel == before.kernel else f"{before.kernel} -> {row.kernel}"
    stack = "" if row.stack == before.stack else f", on the stack {before.stack} -> {row.stack}"
    return (
        f"{row.target}: {row.name}: {change(row, before):+.1%} ({before.per_work:.4f} -> {row.per_work:.4f} a {row.unit}{stack}; {kernel})"
    )
