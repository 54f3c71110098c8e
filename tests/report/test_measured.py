"""What `bench --json` and `evaluate --json` wrote, read for the report of artifacts."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from tvm_rsq.errors import ConfigError
from tvm_rsq.report.data import DeviceRow
from tvm_rsq.report.measured import Artifact, read_measured


def _row(build: Path | str, library: str, *times: float) -> dict:
    return {
        "build": str(build), "times_us": times, "artifact_bytes": 3, "target": "llvm", "threads": 1, "median_us": 1.0, "unstable": False,
        "library": 16 * library,
    }  # fmt: skip


@pytest.fixture
def written(tmp_path):
    """Two artifacts of 3 and 4 bytes, measured in turns with FP32; the first one profiled."""
    first, second = tmp_path / "a.rsq", tmp_path / "b.rsq"
    first.write_bytes(b"abc")
    second.write_bytes(b"abcd")
    bench = {
        "schema": 1, "command": "bench", "builds": [_row(first, "1", 10.0, 11.0), _row(second, "2", 20.0), _row("FP32", "3", 40.0)],
        "layers": [{"layer": "w", "kernel": "k", "time_us": 2.0, "macs": 5, "gmacs": 1.0, "fraction_of_peak": None}],
    }  # fmt: skip
    (tmp_path / "bench.json").write_text(json.dumps(bench))
    return Artifact(first, "1" * 16), Artifact(second, "2" * 16), tmp_path / "bench.json"


def _evaluation(path: Path, measured: Artifact, **changed: object) -> Path:
    artifact = measured.path
    record = {"source": "x.npy", "samples": 8, "agreement": 1.0, "kl": 0.5, "cosine": 1.0, "top1_fp32": None, "top1_quantized": None}
    record |= {"schema": 1, "command": "evaluate", "evaluated": str(artifact), "sha256": hashlib.sha256(artifact.read_bytes()).hexdigest()}
    path.write_text(json.dumps({**record, "seconds": {}, **changed}))
    return path


def test_each_artifact_has_its_own_row_and_the_float_one(written):
    first, second, bench = written
    a, b = read_measured([bench], [first, second])
    assert [row.times_us for row in a.latencies] == [(10.0, 11.0), (40.0,)] and [row.times_us for row in b.latencies] == [(20.0,), (40.0,)]
    assert a.turns == b.turns == str(bench)
    assert [entry.layer for entry in a.layer_times] == ["w"] and b.layer_times == ()


def test_an_evaluation_of_what_was_compiled_again_is_refused(written, tmp_path):
    first, second, _ = written
    evaluation = _evaluation(tmp_path / "e.json", first)
    assert read_measured([evaluation], [first, second])[0].fidelity
    first.path.write_bytes(b"abx")  # of the same size
    with pytest.raises(ConfigError, match="compiled again since"):
        read_measured([evaluation], [first, second])


def test_paths_are_the_same_however_they_are_written(written, monkeypatch):
    first, second, bench = written
    monkeypatch.chdir(first.path.parent)
    assert read_measured([bench], [replace(second, path=Path("b.rsq"))])[0].latencies[0].times_us == (20.0,)


def test_evaluations_are_added_and_the_later_one_counts(written, tmp_path):
    first, second, bench = written
    files = [_evaluation(tmp_path / "1.json", first), bench, _evaluation(tmp_path / "2.json", first, kl=None, agreement=None)]
    a, b = read_measured(files, [first, second])
    assert [entry.kl for entry in a.fidelity] == [math.inf] and math.isnan(a.fidelity[0].agreement) and a.latencies
    assert b.fidelity == ()


def test_an_artifact_that_was_compiled_again_is_refused(written):
    first, second, bench = written
    with pytest.raises(ConfigError, match="measured another .*b.rsq, which was compiled again since"):
        read_measured([bench], [first, replace(second, digest="4" * 16)])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("no JSON", "not JSON"), ("[]", "another program"), ('{"command": "run"}', "tvm-rsq run"),
        ('{"command": "bench", "builds": [{}], "layers": []}', "cannot be read as measurements"),
        ('{"command": "bench", "builds": [{"build": "HERE", "times_us": ["x"]}], "layers": []}', "cannot be read as measurements"),
        ('{"command": "bench", "builds": [{"build": "HERE", "times_us": []}], "layers": []}', "a.rsq has no times"),
        ('{"command": "bench", "builds": [{"build": "HERE", "times_us": [1, -2]}], "layers": []}', "or some that are none"),
        ('{"command": "bench", "builds": [{"build": "HERE", "times_us": [NaN]}], "layers": []}', "or some that are none"),
        ('{"command": [], "builds": []}', "another program"),
        ('{"command": "evaluate", "evaluated": null}', "cannot be read as measurements"),
        ('{"command": "bench", "devices": []}', "of artifacts"),
        ('{"command": "bench", "rows": [{"build": "x"}]}', "cannot be read as measurements"),
        ('{"command": "bench", "rows": []}', "none of the artifacts"),
        ('{"command": "evaluate", "evaluated": "simulated"}', "simulated, none of the artifacts"),
    ],
)  # fmt: skip
def test_other_files_are_refused(written, tmp_path, text, message):
    rest = '"artifact_bytes": 3, "target": "llvm", "threads": 1, "library": "1111111111111111", "times_us"'
    (tmp_path / "other.json").write_text(text.replace("HERE", str(written[0].path)).replace('"times_us"', rest))
    with pytest.raises(ConfigError, match=message):
        read_measured([tmp_path / "other.json"], written[:1])


def test_a_file_that_is_not_there_is_refused(written, tmp_path):
    with pytest.raises(ConfigError, match="absent.json: No such file"):
        read_measured([tmp_path / "absent.json"], written[:1])


def _board_row(build: Path | str, digest: str, cost: int, **changed: object) -> DeviceRow:
    row = DeviceRow(network="n", device="a76", target="a76", build=str(build), artifact=digest, artifact_bytes=9, measure="instructions")
    return replace(row, instructions=cost, **changed)


def test_rows_of_boards_are_found_by_the_library(written, tmp_path):
    """Whatever they are called there, with the baselines of the same boards; a later file's row counts."""
    first, second, bench = written
    ours, theirs = _board_row("hybrid", "1" * 16, 10), _board_row("per-channel", "2" * 16, 20)
    floats = _board_row("FP32", "3" * 16, 40)
    elsewhere, again = replace(floats, device="a72"), replace(ours, instructions=11)
    files = [tmp_path / "1.json", bench, tmp_path / "2.json"]
    for file, rows in ((files[0], [ours, theirs, floats, elsewhere]), (files[2], [again])):
        file.write_text(json.dumps({"schema": 1, "command": "bench", "rows": [asdict(row) for row in rows]}))
    a, b = read_measured(files, [first, second])
    assert a.devices == (again,) and a.beside == (theirs, floats) and a.latencies
    assert b.devices == (theirs,) and b.beside == (floats,)


def test_a_library_that_was_compiled_again_is_refused_on_boards(written, tmp_path):
    rows = [asdict(_board_row(written[0].path, "4" * 16, 10)), asdict(_board_row("b", "2" * 16, 10))]
    (tmp_path / "1.json").write_text(json.dumps({"schema": 1, "command": "bench", "rows": rows}))
    with pytest.raises(ConfigError, match=r"measured another .*a\.rsq, which was compiled again since"):
        read_measured([tmp_path / "1.json"], written[:2])
