"""The folder of one session: its uploads lie in it, cannot leave it, and go with it."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from tvm_rsq.atomic_write import atomic_write
from tvm_rsq.errors import InputError


@contextmanager
def session_folder(work_dir: Path) -> Iterator[Path]:
    """A new folder in `work_dir`, removed with all that is in it.   OSError: it cannot be made."""
    folder = Path(tempfile.mkdtemp(prefix="session-", dir=work_dir))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def inside(folder: Path, name: str) -> Path:
    """The file in `folder` that a client calls `name`. The same rule is in scripts/emulator/session_server.cc.

    InputError: `name` leads out of the folder.
    """
    path = PurePosixPath(name)
    if not name or "\0" in name or path.is_absolute() or ".." in path.parts:
        raise InputError(f"the path {name!r} leaves the session's folder, expected a name inside it")
    return folder / path


def store(folder: Path, name: str, data: bytes) -> None:
    """Write an upload, whole or not at all.   InputError: as `inside`; OSError: the file system refuses."""
    path = inside(folder, name)
    try:
        with atomic_write(path) as partial:
            partial.write_bytes(data)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise OSError(f"cannot store {name} ({len(data)} bytes) on the board: {reason}") from None
