"""Rows as a table, for the terminal and as a page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from scripts.board_check.check import GAIN
from scripts.board_check.row import Row
from scripts.board_check.subject import INT8
from tvm_rsq.cli.show import table
from tvm_rsq.report import formats

_MISSING = "-"
_NAMED = 2  # operators in float that a row has room for
COLUMNS = ("network", "board", "compiled for", "in float", "GMACs", "outputs", "stored tensors", "levels", "saturated", "answer")


def rows_table(rows: Sequence[Row]) -> Table:
    styles = ("green" if row.wrong is None else "bold red" for row in rows)
    found = table(COLUMNS, ([*line[:-1], Text(line[-1], style)] for line, style in zip(lines(rows), styles, strict=True)), left=4)
    found.columns[-1].justify = "left"
    return found


def page(facts: Mapping[str, Any], rows: Sequence[Row]) -> str:
    """Markdown.   facts: "command", "date", "cpu", "versions" """
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    different = sum(row.wrong is not None for row in rows)
    verdict = f"{len(rows) - different} of {len(rows)} are equal in every bit." if different else f"All {len(rows)} are equal in every bit."
    text = [
        "# Networks on aarch64 boards, held to the x86-64 build",
        "",
        "Made by",
        "",
        "<!-- not run: an hour of emulation -->",
        "```bash",
        str(facts["command"]),
        "```",
        "",
        f"- {facts['date']}; {versions}; this machine: {facts['cpu']}.",
        "- Every network is quantized once, scheme hybrid, on four photos (light_*, whose weights are constants: on noise), and",
        "  compiled for this machine and for each board: an emulated CPU that a tracker of TVM's RPC hands out, one thread.",
        f"- Two inputs are run: one that the network was calibrated on, and another one {GAIN:g} times as large, so that values leave",
        "  their ranges. Compared are the float32 outputs of the library that a user gets and, where the table counts them, every stored",
        "  tensor of the same network with all of them exposed. saturated is the part of these levels at the top of their range on the",
        "  second input.",
        "- Operators in float, such as a softmax or those of a local response normalisation, are part of what is compared.",
        f"- {verdict}",
        "",
        "| " + " | ".join(COLUMNS) + " |",
        "|" + "|".join([" --- "] * 4 + [" ---: "] * (len(COLUMNS) - 5) + [" --- "]) + "|",
        *("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines(rows)),
        "",
    ]
    return "\n".join(text)


def lines(rows: Sequence[Row]) -> Iterator[list[str]]:
    """The cells of each row, in the order of COLUMNS."""
    for row in rows:
        yield [
            row.network if row.way == INT8 else f"{row.network}, {row.way}",
            row.board,
            row.target,
            _in_float(row.islands),
            f"{row.macs / 1e9:.2f}" if row.macs else _MISSING,
            f"{row.outputs:,}" if row.outputs else _MISSING,
            _MISSING if row.tensors is None else str(row.tensors),
            _MISSING if row.levels is None else f"{row.levels:,}",
            _MISSING if row.saturated is None else formats.percent(row.saturated),
            "equal" if row.wrong is None else row.wrong,
        ]


def _in_float(islands: Sequence[str]) -> str:
    if len(islands) > _NAMED:
        return f"{len(islands)} operators"
    return ", ".join(islands) or _MISSING
