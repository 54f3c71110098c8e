"""Emulated boards for a test, as `scripts/arm_emulator` starts them."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from scripts.emulator.runtime_libraries import are_cached
from scripts.emulator.toolchain import PACKAGES

ROOT = Path(__file__).resolve().parents[2]


def skip_without_programs() -> None:
    for program, package in PACKAGES.items():
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed; run: apt install {package}")


@contextmanager
def emulator(*arguments: str, before: Callable[[], None] | None = None) -> Iterator[tuple[subprocess.Popen, int, str]]:
    """The running script, its tracker's port, and the line that it was ready with. Skips the test where the boards cannot run.

    before   called in the script's process first
    """
    skip_without_programs()
    if not are_cached():
        pytest.skip("TVM's runtime for aarch64 is not in the cache; run: scripts/arm_emulator --prepare")
    command = [sys.executable, str(ROOT / "scripts" / "arm_emulator"), "--port", "0", "--no-install", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=before) as process:
        try:
            line = process.stdout.readline()
            assert line.startswith("ready: "), process.stderr.read()
            yield process, int(line.split(",")[0].rpartition(":")[2]), line
        finally:
            process.kill()
