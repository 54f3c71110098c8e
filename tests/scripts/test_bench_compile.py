"""What counts as whose time, and what is beyond a limit; the measuring itself is the script's."""

from __future__ import annotations

import time

import pytest

from scripts.compile_time.main import _parser as parser
from scripts.compile_time.main import beyond, limits, main, table
from scripts.compile_time.stages import Stage, StageClock, peak_bytes, total
from tvm_rsq.progress import Progress


def stage(part: str, name: str, wall: float, peak: int = 10**9) -> Stage:
    return Stage(part=part, stage=name, wall_s=wall, cpu_s=2 * wall, peak_bytes=peak)


STAGES = (stage("quantize", "calibration", 2.0), stage("quantize", "sensitivity", 3.0, 2 * 10**9), stage("compile", "build", 5.0))


def test_time_goes_to_the_stage_that_an_event_ends_or_continues() -> None:
    clock = StageClock()
    with clock.part("compile"):
        time.sleep(0.02)
        clock.event(Progress(stage="build", done=0, total=2))
        for done in (1, 2):
            time.sleep(0.01)
            clock.event(Progress(stage="build", done=done, total=2))
    found = {s.stage: s for s in clock.stages}
    assert found["other"].wall_s >= 0.02 and found["build"].wall_s >= 0.02
    assert found["build"].cpu_s < found["build"].wall_s
    whole = total(clock.stages, "compile")
    assert whole.wall_s == pytest.approx(found["other"].wall_s + found["build"].wall_s)
    assert 10**6 < whole.peak_bytes <= peak_bytes()


def test_a_limit_is_told_when_a_part_is_beyond_it_and_only_then() -> None:
    assert beyond(STAGES, {("compile", "s"): 5.0, ("quantize", "s"): 5.0, ("quantize", "GB"): 2.0}) == []
    lines = beyond(STAGES, {("compile", "s"): 4.9, ("quantize", "GB"): 1.9, ("compile", "GB"): 1.9})
    assert lines == ["compile took 5.00 s, expected at most 4.9 s", "quantize took 2.00 GB, expected at most 1.9 GB"]


def test_no_limit_without_its_option() -> None:
    assert limits(parser().parse_args(["resnet50"])) == {}
    given = limits(parser().parse_args(["resnet50", "--max-compile-s", "60", "--max-memory-gb", "3"]))
    assert given == {("compile", "s"): 60.0, ("quantize", "GB"): 3.0, ("compile", "GB"): 3.0}


def test_the_table_shows_stages_and_sums() -> None:
    lines = table(STAGES).splitlines()
    assert len(lines) == 6 and lines[3].split() == ["quantize", "all", "5.0", "s", "10.0", "s", "2.00", "GB"]


def test_wrong_usage_is_refused_before_the_work(capsys: pytest.CaptureFixture[str], tmp_path) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["resnet50", "--samples", "0"])
    assert main(["resnet50", "--json", str(tmp_path / "missing" / "file.json")]) == 1
    assert "missing is not a directory" in capsys.readouterr().err
