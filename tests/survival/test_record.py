"""Rows of reliability experiments: one for each, the last one counts, and a page of all."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from scripts.survival.record import JSON, PAGE, read_rows, record
from tvm_rsq.errors import ConfigError


def test_the_last_row_of_an_experiment_counts_and_the_page_shows_all(tmp_path):
    record("soak", 10, 9, {"growth": "1 kB"}, docs=tmp_path)
    record("hostile ONNX", 1000, 1000, {"refused": 900, "longest, s": 1.23456}, about="Flipped bits.", seed=7, docs=tmp_path)
    record("soak", 20_000, 20_000, {"growth": "0 kB"}, docs=tmp_path)
    rows = read_rows(tmp_path / JSON)
    assert [(row.experiment, row.tried, row.survived) for row in rows] == [("soak", 20_000, 20_000), ("hostile ONNX", 1000, 1000)]
    text = (tmp_path / PAGE).read_text()
    row = "| [soak](#soak) | 20,000 | 20,000 |"
    for part in (row, "(#hostile-onnx)", "- longest, s: 1.23", "Flipped bits.", "seed 7", "- growth: 0 kB"):
        assert part in text
    assert "1 kB" not in text


def test_rows_written_at_once_are_all_kept(tmp_path):
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda number: record(f"experiment {number}", 1, 1, {}, docs=tmp_path), range(8)))
    assert {row.experiment for row in read_rows(tmp_path / JSON)} == {f"experiment {number}" for number in range(8)}


def test_a_file_of_something_else_is_refused_and_kept(tmp_path):
    (tmp_path / JSON).parent.mkdir()
    (tmp_path / JSON).write_text('{"schema": 2}')
    with pytest.raises(ConfigError, match="holds no rows of experiments"):
        record("soak", 1, 1, {}, docs=tmp_path)
    assert (tmp_path / JSON).read_text() == '{"schema": 2}'
