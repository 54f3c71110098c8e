"""`tvm-rsq report` of one and of several artifacts; their libraries are no libraries, as nothing loads them."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

import tvm_rsq
from tests.report.report_sample import report_data
from tvm_rsq import artifact
from tvm_rsq.cli.app import app
from tvm_rsq.compiled_module import Contents
from tvm_rsq.report.data import DeviceRow


def _save(path: Path, seed: int | None, *, reported: bool = True) -> None:
    """seed: None for an FP32 build"""
    data = None if seed is None else report_data(4, seed)
    path.parent.mkdir(exist_ok=True)
    contents = Contents(
        name="mobilenetv2", library=str(path).encode(), inputs=(), calls=(), target={"kind": "llvm"}, target_name="llvm", arch="x86_64",
        features=(), plan=data and data.plan, report=data if reported else None,
    )  # fmt: skip
    artifact.save(contents, path)


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    _save(Path("x/net.rsq"), 0)
    _save(Path("y/net.rsq"), 1)
    _save(Path("fp32.rsq"), None)
    return tmp_path


def invoke(*arguments: str):
    return CliRunner().invoke(app, ["report", *arguments])


def test_one_artifact_is_reported_as_ever(here):
    done = invoke("x/net.rsq", "--json", "r.json")
    assert done.exit_code == 0 and done.stdout.startswith("report.html: ")
    record = json.loads(Path("r.json").read_text())
    assert set(record) == {"schema", "command", "artifact", "output", "report"} and record["artifact"] == "x/net.rsq"
    assert record["report"]["network"] == "mobilenetv2" and "images" not in record["report"]
    assert "side by side" not in Path("report.html").read_text()


def test_several_are_set_side_by_side(here):
    done = invoke("x/net.rsq", "y/net.rsq", "fp32.rsq", "-o", "c.html", "--json", "-")
    record = json.loads(done.stdout)
    assert record["output"] == "c.html" and [entry["label"] for entry in record["artifacts"]] == ["x/net", "y/net", "fp32"]
    assert [entry["report"] is None for entry in record["artifacts"]] == [False, False, True]
    assert [entry["bytes"] for entry in record["artifacts"]] == [Path(entry["artifact"]).stat().st_size for entry in record["artifacts"]]
    text = Path("c.html").read_text()
    assert "<title>mobilenetv2: 3 builds side by side</title>" in text and "x/<wbr>net" in text and str(here) not in text


def test_a_plan_without_a_report_is_compared_too(here):
    _save(Path("bare.rsq"), 2, reported=False)
    assert invoke("bare.rsq", "x/net.rsq").exit_code == 0
    assert "</span> of 4 layers" in Path("report.html").read_text()


def digest(folder: str) -> str:
    return tvm_rsq.load(f"{folder}/net.rsq", to_run=False).contents.digest


def test_what_was_measured_is_added(here):
    rows = [
        {"build": name, "times_us": [low, low + 1.0], "artifact_bytes": 1, "target": "llvm", "threads": 1, "library": library}
        for name, low, library in (("y/net.rsq", 77.0, digest("y")), ("x/net.rsq", 99.0, digest("x")), ("FP32", 300.0, "0"))
    ]
    Path("bench.json").write_text(json.dumps({"schema": 1, "command": "bench", "builds": rows, "layers": []}))
    assert invoke("x/net.rsq", "--measured", "bench.json").exit_code == 0 and "99.5 µs" in Path("report.html").read_text()
    record = json.loads(invoke("x/net.rsq", "y/net.rsq", "--measured", "bench.json", "-o", "c.html", "--json", "-").stdout)
    assert [entry["report"]["latencies"][0]["times_us"] for entry in record["artifacts"]] == [[99.0, 100.0], [77.0, 78.0]]
    assert "median, 1 thread; in turns; FP32 300 µs" in Path("c.html").read_text() and "3.88× as fast" in Path("c.html").read_text()


def test_what_boards_measured_is_added(here):
    """The page of one has them beside the baselines, that of several as rows; a count has a least, a time has none."""
    x, y = (tvm_rsq.load(f"{name}/net.rsq", to_run=False).contents for name in "xy")
    row = DeviceRow(network=x.name, device="kitchen", target="a76", build="hybrid", artifact=x.digest, artifact_bytes=9, measure="time")
    timed = [replace(row, latency_us=(2000.0, 2200.0)), replace(row, build="FP32", artifact="0", latency_us=(8400.0,))]
    counted = [
        replace(row, device="a72", artifact=held.digest, measure="instructions", instructions=count) for held, count in ((x, 20), (y, 10))
    ]
    rows = [asdict(found) for found in (*timed, *(replace(found, build=f"b{i}") for i, found in enumerate(counted)))]
    Path("boards.json").write_text(json.dumps({"schema": 1, "command": "bench", "rows": rows}))
    assert invoke("x/net.rsq", "--measured", "boards.json").exit_code == 0
    text = Path("report.html").read_text()
    assert "<h2>Devices</h2>" in text and "kitchen" in text and "4.00× vs FP32" in text
    assert invoke("x/net.rsq", "y/net.rsq", "--measured", "boards.json", "-o", "c.html").exit_code == 0
    lines = {device: Path("c.html").read_text().partition(f">on {device}<")[2].partition("</tr>")[0] for device in ("kitchen", "a72")}
    assert "2.10 ms" in lines["kitchen"] and "best" not in lines["kitchen"]
    assert "emulated: counted, not timed, instructions" in lines["a72"] and "0.50× of A" in lines["a72"] and "best" in lines["a72"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("fp32.rsq",), 1, "fp32.rsq carries no report"),
        (("x/net.rsq", "fp32.rsq", "x/../x/net.rsq"), 2, "x/net.rsq is given twice"),
        (("x/net.rsq", "absent.rsq"), 1, "absent.rsq"),
        (("x/net.rsq", "y/net.rsq", "--measured", "bench.json"), 1, "bench.json measured z.rsq, none of the artifacts"),
        ((*(f"n{i}.rsq" for i in range(9)),), 1, "9 builds to compare, expected 2 to 8"),
    ],
    ids=["fp32", "twice", "absent", "measured", "many"],
)
def test_refusals_are_one_line_and_leave_nothing(here, arguments, code, message):
    for name in arguments:
        if name.startswith("n"):
            _save(Path(name), 0)
    row = {"build": "z.rsq", "times_us": [1.0], "artifact_bytes": 1, "target": "llvm", "threads": 1, "library": "0"}
    Path("bench.json").write_text(json.dumps({"command": "bench", "builds": [row], "layers": []}))
    done = invoke(*arguments, "-o", "c.html", "-q")
    words = " ".join(done.stderr.replace("│", " ").split())
    assert done.exit_code == code and message in words and not Path("c.html").exists()
    assert code == 2 or len(done.stderr.splitlines()) == 1
