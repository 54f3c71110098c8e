"""Two processes that compile, and two that tune, in one folder at once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from scripts.survival.command import Place
from tvm_rsq.artifact import load
from tvm_rsq.targets.parse import parse_target
from tvm_rsq.tuning.json_lines import read_lines
from tvm_rsq.tuning.work_dir import open_work_dir

ABOUT = (
    "Two processes at once compile one network into one file with one record of times, or tune one network in one folder. They survive "
    "where both end well, the artifact is whole, every line of every file is one, and all trials that either was to make are on record."
)
_TRIALS = 24


def rounds(network: Path, count: int, folder: Path) -> Iterator[tuple[str, str]]:
    """(what was done, what is wrong afterwards, "" if nothing)."""
    for number in range(count):
        place = Place(folder / str(number))
        compile_ = ["compile", str(network), "-o", str(place.out / "net.rsq")]
        yield f"{number} compile", _both(place, [compile_, compile_]) or _whole(place)
        tune = ["tune", str(network), "--work-dir", str(place.out / "tuning"), "--levers", "none", "--trials"]
        yield f"{number} tune", _both(place, [[*tune, str(_TRIALS // 2)], [*tune, str(_TRIALS)]]) or _recorded(place)


def _both(place: Place, commands: list[list[str]]) -> str:
    running = [place.start(command) for command in commands]
    said = [process.communicate()[1] for process in running]
    return "; ".join(text[-300:] for process, text in zip(running, said, strict=True) if process.returncode)


def _whole(place: Place) -> str:
    load(place.out / "net.rsq")
    lines = read_lines(place.folder / "timings.jsonl", lambda value: (str(value["task"]), str(value["choice"])))
    left = [path.name for path in (*place.out.iterdir(), *place.temporary.iterdir()) if path.name != "net.rsq"]
    if left:
        return f"left {left[:4]}"
    return "a time is recorded twice" if len(set(lines)) < len(lines) else ""


def _recorded(place: Place) -> str:
    with open_work_dir(place.out / "tuning", parse_target("llvm").tvm_target()) as opened:
        chosen = {(task, str(record.trace)) for task, records in opened._records.items() for record in records}
        tasks = len(opened._records)
    tried = len(chosen) - tasks  # the untuned choice of every task is no trial
    return f"{tried} trials on record, expected {_TRIALS}" if tried < _TRIALS else ""
