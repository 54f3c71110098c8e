"""Run a page's blocks in one folder, and put what they print into the blocks behind them."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from scripts.documentation.blocks import Block, blocks, commands
from scripts.documentation.execute import execute, namespace
from tvm_rsq.atomic_write import atomic_write
from tvm_rsq.held_folder import scratch_folder

ROOT = Path(__file__).resolve().parents[2]
_COLUMNS = 210
_LONGEST_START_S = 60.0  # of what is left running
_HEAD, _TAIL = 16, 7  # of what is longer than both


def run_page(page: Path) -> None:
    """RuntimeError: a block fails, with its place and last words, or the page shows nothing that is printed."""
    found = blocks(page)
    if not any(block.kind == "output" for block in found):
        raise RuntimeError(f"{page} shows no output to put in; its blocks are run by tests/test_documentation.py")
    with _folder() as folder, _sessions() as started:
        printed = dict[int, list[str]]()
        names = namespace()
        for block, behind in zip(found, [*found[1:], None], strict=True):
            if block.kind not in ("bash", "python") or block.not_run:
                continue
            print(f"{block.place}: {block.text.splitlines()[0]}", file=sys.stderr)
            said = _bash(block, folder, started) if block.kind == "bash" else _python(block, folder, names)
            if behind is not None and behind.kind == "output":
                printed[behind.first] = shortened([line.rstrip() for line in said.strip("\n").splitlines()])
    _replace(page, found, printed)


def shortened(lines: Sequence[str]) -> list[str]:
    """The first and the last lines of a long output."""
    if len(lines) <= _HEAD + _TAIL + 1:
        return list(lines)
    return [*lines[:_HEAD], "...", *lines[-_TAIL:]]


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    """As a checkout looks to a user, with nothing of theirs in it."""
    with scratch_folder() as folder:
        for part in (".venv", "scripts", "tests", "docs", "tvm_rsq", "passes", "targets", "constraints.txt"):
            (folder / part).symlink_to(ROOT / part)
        yield folder


@contextlib.contextmanager
def _sessions() -> Iterator[list[int]]:
    """Of the blocks; what still runs in them at the end is ended."""
    started: list[int] = []
    try:
        yield started
    finally:
        for session in started:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(session, signal.SIGTERM)


def _bash(block: Block, folder: Path, started: list[int]) -> str:
    """What it prints, in files and not pipes: what it leaves running goes on writing. Each such command prints a line once it is ready."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "COLUMNS": str(_COLUMNS), "NO_COLOR": "1"}
    with tempfile.NamedTemporaryFile() as out, tempfile.NamedTemporaryFile() as err:
        words = ["bash", "-euo", "pipefail", "-c", block.text]
        process = subprocess.Popen(words, cwd=folder, env=environment, stdout=out, stderr=err, start_new_session=True)
        started.append(process.pid)
        code, left = process.wait(), sum(words[-1] == "&" for _, words in commands(block.text))
        until = time.monotonic() + _LONGEST_START_S
        while Path(out.name).read_text("utf-8").count("\n") < left and time.monotonic() < until:
            time.sleep(0.1)
        said, told = (Path(file.name).read_text("utf-8") for file in (out, err))
    if code:
        raise RuntimeError(f"{block.place} ended with {code}: {(told or said).strip()[-500:]}")
    return said


def _python(block: Block, folder: Path, names: dict[str, Any]) -> str:
    said, before = io.StringIO(), os.getcwd()
    os.chdir(folder)
    try:
        with contextlib.redirect_stdout(said):
            execute(block, names, folder)
    except Exception as error:
        raise RuntimeError(f"{block.place} raises {type(error).__name__}: {error}") from error
    finally:
        os.chdir(before)
    return said.getvalue()


def _replace(page: Path, found: Sequence[Block], printed: dict[int, list[str]]) -> None:
    lines = page.read_text("utf-8").splitlines()
    for block in reversed(found):
        if block.first in printed:
            lines[block.first : block.last] = printed[block.first]
    with atomic_write(page) as partial:
        partial.write_text("\n".join(lines) + "\n", "utf-8")
