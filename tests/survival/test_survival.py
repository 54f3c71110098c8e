"""Kills, two at once, the same again and a soak: a few of what `scripts/reliability` does many times."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest

from scripts.survival import main
from scripts.survival.command import Place, alive_in
from scripts.survival.kills import kills
from scripts.survival.onnx_networks import plain
from scripts.survival.record import JSON, PAGE, read_rows
from scripts.survival.soak import soak
from tests import small_network

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_kills_leave_nothing_that_stays(tmp_path):
    (tmp_path / "plain.onnx").write_bytes(plain())
    found = list(kills(tmp_path / "plain.onnx", 2, 0, tmp_path, Counter()))
    assert len(found) == 3 and not [reason for _what, reason in found if reason]


def test_what_a_session_still_runs_is_seen(tmp_path):
    with Place(tmp_path).start(["--help"]) as process:
        assert process.pid in alive_in(process.pid)
        process.communicate()
    assert not alive_in(process.pid)


def test_a_soak_counts_right_answers_and_growth():
    right, grown = soak(small_network.compiled(), 400, 0)
    assert right == 400 and grown < 4 * 2**20


def test_the_command_records_and_says_what_did_not_survive(tmp_path, monkeypatch, capsys):
    tally = main.experiments.Tally(tried=3, survived=2, figures={"finding 1": "left a file"}, about="Killed.")
    monkeypatch.setattr(main, "EXPERIMENTS", {"kill": ("kill -9", 50, lambda count, seed, folder, tell: tally)})
    assert main.main(["kill", "--count", "3", "--docs", str(tmp_path), "--json", str(tmp_path / "rows.json")]) == 1
    (row,) = read_rows(tmp_path / JSON)
    assert (row.tried, row.survived) == (3, 2) and row.command == "scripts/reliability kill --count 3"
    assert "left a file" in (tmp_path / PAGE).read_text() and "kill -9: 2 of 3 survived" in capsys.readouterr().out
    assert (tmp_path / "rows.json").is_file()


def test_nothing_that_is_loaded_is_a_pickle():
    """numpy refuses pickles where it is told to; torch's loader of programs is held to weights by load_program."""
    for folder in ("tvm_rsq", "passes", "targets"):
        for path in (ROOT / folder).rglob("*.py"):
            text = path.read_text()
            for word in ("import pickle", "import marshal", "import shelve", "import dill", "torch.load(", "joblib", "yaml.load"):
                assert word not in text, f"{path} has {word}"
            for line in text.splitlines():
                assert "np.load(" not in line or "allow_pickle=False" in line, f"{path}: {line.strip()}"


def test_the_page_in_the_repository_is_made_of_its_rows():
    from scripts.survival.page import page

    if (ROOT / "docs" / JSON).exists():
        assert (ROOT / "docs" / PAGE).read_text() == page(read_rows(ROOT / "docs" / JSON))
    assert os.access(ROOT / "scripts" / "reliability", os.X_OK)
