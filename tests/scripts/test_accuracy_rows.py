"""scripts/accuracy: rows are kept line by line, read back, and summed up over seeds."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from scripts.accuracy.row import Row, SchemaError, document, read_document
from scripts.accuracy.row_store import RowStore
from scripts.accuracy.summary import mean, summarize
from tests.scripts.accuracy_rows import EVALUATED, row


def test_rows_are_there_again_in_the_next_run(tmp_path: Path) -> None:
    path, first, second = tmp_path / "new" / "rows.jsonl", row(notes=("one", "two")), row(seed=1, top1=None)
    store = RowStore(path)
    assert store.get(first.case, EVALUATED) is None
    store.add(first)
    store.add(second)
    again = RowStore(path)
    assert again.get(first.case, EVALUATED) == first and again.get(second.case, EVALUATED) == second
    assert again.get(first.case, replace(EVALUATED, samples=200)) is None
    assert again.get(first.case, replace(EVALUATED, weights="another")) is None


def test_a_line_that_was_cut_off_is_measured_again(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    RowStore(path).add(row())
    line = path.read_text()
    path.write_text(line + line.replace('"seed": 0', '"seed": 1')[:50])
    store = RowStore(path)
    assert len(store.rows) == 1 and path.read_text() == line
    store.add(row(seed=1))
    assert len(RowStore(path).rows) == 2


def test_what_is_not_supported_is_not_kept(tmp_path: Path) -> None:
    store = RowStore(tmp_path / "rows.jsonl")
    store.add(row(unsupported="no batch norm"))
    assert not store.rows and not store.path.exists()


def test_rows_are_dropped_to_be_measured_again(tmp_path: Path) -> None:
    store = RowStore(tmp_path / "rows.jsonl")
    for seed in range(3):
        store.add(row(seed=seed))
    store.drop([(row(seed=1).case, EVALUATED), (row(seed=7).case, EVALUATED)])
    assert [found.case.seed for found in RowStore(store.path).rows.values()] == [0, 2]


@pytest.mark.parametrize(
    ("change", "said"), [('{"schema": 0}', "has schema 0, this version reads 1"), ("[]", "is no row"), ("{", "is no row")]
)
def test_a_line_of_another_kind_is_told(tmp_path: Path, change: str, said: str) -> None:
    (tmp_path / "rows.jsonl").write_text(change + "\n")
    with pytest.raises(SchemaError, match=rf"rows.jsonl, line 1 {said}"):
        RowStore(tmp_path / "rows.jsonl")


def test_a_result_is_read_as_it_was_written() -> None:
    facts, rows = {"command": "x", "machine": {"cores": 2}}, (row(), row(method="DFQ", unsupported="no batch norm"))
    text = json.dumps(document(facts, rows))
    assert read_document(text, "a.json") == (facts, rows)
    assert json.loads(text)["rows"][0]["method"] == "ours" and json.loads(text)["rows"][0]["labelled"] == "CIFAR-10 test"
    with pytest.raises(SchemaError, match="a.json has schema 2, this version reads 1"):
        read_document(text.replace('"schema": 1', '"schema": 2'), "a.json")
    with pytest.raises(SchemaError, match="a.json is not a result of scripts/reproduce_accuracy"):
        read_document("{}", "a.json")


def test_the_spread_of_seeds() -> None:
    assert mean([None]) is None
    assert mean([0.5, None]) == (0.5, None)
    assert mean([0.5, 0.7]) == pytest.approx((0.6, 0.2))
    assert mean([1.0, 2.0, 6.0]) == pytest.approx((3.0, 7.0**0.5))


def test_seeds_are_summed_up_and_nothing_else_is_mixed() -> None:
    rows: list[Row] = [row(seed=seed, top1=0.92 + seed / 1000, peak_bytes=10**9 + seed, synthesis_s=10.0 + seed) for seed in range(3)]
    rows += [row(source="zeroq"), row(bits="W4A8"), row(scheme="hybrid"), row(method="DFQ", unsupported="no batch norm")]
    first, *others = summarize(rows)
    assert first.seeds == (0, 1, 2) and first.top1 == pytest.approx((0.921, 0.001)) and first.drop == pytest.approx((0.004, 0.001))
    assert first.peak_bytes == 10**9 + 2 and first.seconds == pytest.approx(16.0)
    assert [len(other.seeds) for other in others] == [1, 1, 1, 0] and others[-1].unsupported == "no batch norm"


def test_images_of_another_machine_are_marked() -> None:
    assert [summarize([row(synthesis_cpu=cpu)])[0].elsewhere for cpu in ("some CPU", "", "other CPU")] == [False, False, True]
