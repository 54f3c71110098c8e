"""A file that a script will write after minutes of work, checked before them."""

from __future__ import annotations

import os
from pathlib import Path

from tvm_rsq.atomic_write import takes_files


def check_writable(path: Path) -> None:
    """OSError: `path` is a folder, or its own folder is missing or not writable."""
    folder = path.absolute().parent
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a directory, expected a file name")
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder} is not a directory; make it first")
    if not os.access(folder, os.W_OK) or not (path.exists() or takes_files(folder)):
        raise PermissionError(f"{folder} is not writable; name another file")
