"""Rows of devices: what is compared with what, and how the page and the terminal show them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from rich.console import Console

from tests.report.report_sample import device_rows, report_data
from tvm_rsq.cli.device_tables import device_table
from tvm_rsq.report.devices import device_groups, gain
from tvm_rsq.report.page import render


def test_gains_are_within_a_device_and_a_measure():
    rows = device_rows()
    assert gain(rows[0], "FP32", rows) == pytest.approx(4.1) and gain(rows[1], "FP32", rows) is None
    assert gain(rows[2], "per-channel", rows) == pytest.approx(1.25)
    assert gain(rows[2], "FP32", rows) is None, "FP32 failed there"
    by_instructions = replace(rows[3], measure="instructions")
    assert gain(rows[2], "per-channel", [rows[2], by_instructions]) is None, "another measure"
    assert by_instructions.cost == 60_000_000 and rows[3].cost == 25e6 and rows[4].cost is None


def test_bars_are_of_their_device_alone():
    timed, counted = device_groups(device_rows())
    assert [bar.of_longest for bar in timed.bars] == [pytest.approx(1000 / 4100), 1.0] and not timed.emulated
    assert [bar.of_longest for bar in counted.bars] == [0.8, 1.0, None] and counted.emulated


def test_the_page_never_calls_a_count_a_latency():
    page = render(report_data(layers=2))
    section = page[page.index("<h2>Devices</h2>") : page.index("<h2>Sensitivity</h2>")]
    assert "kitchen &lt;b&gt;" in section and "<b>kitchen" not in section
    assert "emulated, modelled cycles" in section and "20.0 M" in section and "SIGILL" in section and "1.00 ms" in section
    bars = section[section.index("<h3>cortex-a72") : section.index("All figures")]
    row = section[section.rindex("<tr><th>cortex-a72</th><td>hybrid") :].partition("</tr>")[0]
    assert not any(unit in text for unit in (" ms<", "µs") for text in (bars, row))
    assert "<h2>Devices</h2>" not in render(replace(report_data(layers=2), devices=()))


def test_the_page_has_no_column_of_what_no_device_has():
    rows = device_rows()
    pages = [render(replace(report_data(layers=2), devices=some)) for some in (rows, rows[:2], rows[2:])]
    found = [page[page.index("All figures") :].partition("</thead>")[0] for page in pages]
    assert [("median latency" in head, "instructions" in head) for head in found] == [(True, True), (True, False), (False, True)]
    for page in pages:
        table = page[page.index("All figures") :].partition("</table>")[0]
        assert len({row.count("</th>") + row.count("</td>") for row in table.split("<tr>")[1:]}) == 1
    assert "run on cortex-a72, calibrated" in pages[2]


def test_a_target_of_another_name_is_told_from_what_was_measured():
    row = replace(device_rows()[3], device="max", target="neoverse-n2")
    assert ">neoverse-n2, emulated, modelled cycles<" in render(replace(report_data(layers=2), devices=(row,)))


def test_the_terminal_shows_what_was_measured():
    console = Console(width=300, record=True)
    console.print(device_table(device_rows()))
    lines = console.export_text().splitlines()
    assert "modelled cycles" in lines[0] and "4.10×" in lines[1] and "close" in lines[2] and "20.0 M" in lines[3] and "failed" in lines[5]
    timed = Console(width=300, record=True)
    timed.print(device_table(device_rows()[:2]))
    assert "instructions" not in timed.export_text()
