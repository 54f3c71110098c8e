"""Temporary folders that do not outlive their process for long, even if it is killed.

A process holds a lock on each of its folders, which the kernel gives up when the process ends, however it does. Whoever makes a folder
removes those of the same name that nobody holds. So neither a number of a process that was given again nor one of another container's
says that a folder is in use, or that it is not.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_SCRATCH = "tvm-rsq-held-"


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """An empty folder among the system's temporary ones, removed at the end."""
    with held_folder(Path(tempfile.gettempdir()), _SCRATCH) as folder:
        yield folder


@contextmanager
def held_folder(parent: Path, prefix: str, suffix: str = "") -> Iterator[Path]:
    """An empty folder in `parent`, removed at the end; before, those of killed processes with this prefix and suffix are removed.

    OSError: it cannot be made.
    """
    remove_abandoned(parent, prefix, suffix)
    folder, held = _make(parent, prefix, suffix)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(held)


def remove_abandoned(parent: Path, prefix: str, suffix: str = "") -> None:
    """Remove this user's folders of such names that nobody holds."""
    with suppress(OSError), os.scandir(parent) as entries:
        for entry in entries:
            if entry.name.startswith(prefix) and entry.name.endswith(suffix) and entry.is_dir(follow_symlinks=False):
                with suppress(OSError):  # another process removes the same one, or it is another user's
                    if entry.stat(follow_symlinks=False).st_uid == os.getuid():
                        _remove_unheld(Path(entry.path))


def _make(parent: Path, prefix: str, suffix: str) -> tuple[Path, int]:
    """A new folder and the descriptor that holds it."""
    while True:
        folder = Path(tempfile.mkdtemp(suffix, prefix, parent))
        with suppress(FileNotFoundError):  # removed as abandoned before it was held
            held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            if _lock(held) is not False and folder.exists():
                return folder, held
            os.close(held)


def _remove_unheld(folder: Path) -> None:
    held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if _lock(held):
            shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(held)


def _lock(held: int) -> bool | None:
    """Whether it was free; None: the file system has no such locks, so that no folder there is ever taken for abandoned."""
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True
