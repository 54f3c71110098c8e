"""Where a server's sessions keep what is uploaded: a folder that was named, or a temporary one, which goes with the server.

A server that is killed outright cannot tidy up; the next one does, since the folder's name tells whose it was.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tvm_rsq.errors import ConfigError

_PREFIX = "tvm-rsq-serve-"


def make_work_dir(work_dir: Path | None) -> None:
    """Make it before anyone is told to come.   ConfigError: it cannot be made."""
    if work_dir is not None:
        try:
            work_dir.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"--work-dir {work_dir} cannot be made: {error.strerror}; name a folder that can be written") from error


@contextmanager
def work_folder(chosen: Path | None) -> Iterator[Path]:
    """The folder named, or a temporary one.   ConfigError: the former cannot be made."""
    if chosen is not None:
        make_work_dir(chosen)
        yield chosen.resolve()
        return
    remove_abandoned(Path(tempfile.gettempdir()))
    with tempfile.TemporaryDirectory(prefix=f"{_PREFIX}{os.getpid()}-", ignore_cleanup_errors=True) as temporary:
        yield Path(temporary)


def remove_abandoned(parent: Path) -> None:
    """Remove temporary folders of this user's servers whose process is gone."""
    for folder in parent.glob(f"{_PREFIX}*-*"):
        owner = folder.name.removeprefix(_PREFIX).partition("-")[0]
        try:
            if owner.isdigit() and folder.stat().st_uid == os.getuid() and not _is_running(int(owner)):
                shutil.rmtree(folder, ignore_errors=True)
        except FileNotFoundError:  # another server removes the same one
            continue


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's, under a number that has been given again
        return True
    return True
