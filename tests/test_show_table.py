"""Tables show names, whatever the width: they are what overrides are written with."""

from __future__ import annotations

import io

import pytest
from rich.console import Console
from rich.text import Text

from tvm_rsq.cli.show import table

NAME = "features.18.conv.0.0.weight"


def lines(names: list[str], width: int) -> list[str]:
    out = io.StringIO()
    made = table(["layer", *(f"column {i}" for i in range(9))], [[name, *["per-channel 1234"] * 9] for name in names], left=3)
    Console(file=out, width=width).print(made)
    return out.getvalue().splitlines()


@pytest.mark.parametrize("width", [60, 80, 120, 400])
def test_names_stay_whole_on_one_line(width):
    header, row = lines([NAME], width)
    assert header.startswith("layer ") and row.startswith(f"{NAME} ")


def test_short_names_do_not_cut_their_header():
    assert lines(["a"], 60)[0].startswith("layer ")


def test_a_name_that_leaves_no_room_is_cut():
    assert lines(["x" * 200], 80)[1].startswith("x" * 36) and len(lines(["x" * 200], 80)[1]) <= 80


def test_cells_are_plain_text_and_styled_ones_stay():
    made = table(["a", "b"], [["[bold]x\x1b", Text("y", "red")]])
    assert [cell.plain for column in made.columns for cell in column.cells] == ["[bold]x\N{REPLACEMENT CHARACTER}", "y"]
