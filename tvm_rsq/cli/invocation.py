"""The command line as the user typed it, for reports."""

from __future__ import annotations

import shlex
import sys


def command_line() -> str:
    """A line that can be pasted into a shell."""
    return shlex.join(["tvm-rsq", *sys.argv[1:]])
