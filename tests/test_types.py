"""The package passes mypy with the rules of pyproject.toml."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def test_mypy_finds_nothing():
    found = subprocess.run(
        ["bash", "scripts/typecheck", "--no-error-summary"],
        cwd=ROOT, env={**os.environ, "TYPECHECK_PYTHON": sys.executable}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (found.returncode, found.stdout) == (0, ""), found.stdout + found.stderr
