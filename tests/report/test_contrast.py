"""Colours of the pages against what they are drawn on, by the formulas of WCAG 2.2: text (AA) and marks, light, dark and printed."""

from __future__ import annotations

import re
from importlib import resources

import pytest

TEXT, MARKS = 4.5, 3.0  # the least ratios of success criteria 1.4.3 and 1.4.11
MARKS_ALONE = r"pt|pc|float|other|line\d"
BEHIND = ("ground", "surface", "hover")
MODES = ("light", "dark", "print")
STYLES = [(resources.files("tvm_rsq.report") / "templates" / name).read_text() for name in ("style.css", "compare.css")]


def _variables(mode: str) -> dict[str, str]:
    """Colour variables by name, as `mode` has them."""
    found: dict[str, str] = {}
    for style in STYLES:
        base, *blocks = style.split("@media")
        for block in [base, *(b for b in blocks if mode in b.split("{")[0])]:
            for declared in re.findall(r":root \{(.*?)\}", block, re.S):
                found |= dict(re.findall(r"--(\w+): (#[0-9a-f]+);", declared))
    return found


def _luminance(colour: str) -> float:
    digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
    channels = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _contrast(one: str, other: str) -> float:
    dark, light = sorted((_luminance(one), _luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def test_the_formula_is_that_of_the_standard():
    assert _contrast("#000", "#ffffff") == pytest.approx(21) and _contrast("#777777", "#fff") == pytest.approx(4.478, abs=1e-3)


@pytest.mark.parametrize("mode", MODES)
def test_colours_stand_out_from_what_is_behind_them(mode):
    colours = _variables(mode)
    assert len(colours) > 20 and (mode == "light" or colours != _variables("light"))
    faint = {
        (name, behind): round(_contrast(colour, colours[behind]), 2)
        for name, colour in colours.items() if name not in (*BEHIND, "rule")
        for behind in BEHIND
        if _contrast(colour, colours[behind]) < (MARKS if re.fullmatch(MARKS_ALONE, name) else TEXT)
    }  # fmt: skip
    assert faint == {}


def test_colours_of_marks_are_not_those_of_text():
    assert re.findall(rf"(?<![\w-])color: var\(--(?:c|{MARKS_ALONE})\)", "".join(STYLES)) == []
