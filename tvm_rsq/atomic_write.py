"""Files that are there whole or not at all, also after a kill, and what a killed writer left is removed by the next."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile

from tvm_rsq.held_folder import held_folder

_SUFFIX = ".partial"
_KEPT = 200  # characters of the name: file systems take 255


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A path in a folder beside `path` to write to: renamed to `path` at the end, removed after a failure.

    OSError: the file system's refusal, naming `path`. Whatever was there before is still there then. A symbolic link stays one: what it
    points to is replaced. What is no regular file, a device or a pipe, is written to as it is: it must not be replaced.
    """
    named, path = str(path), Path(path)
    if path.exists() and not path.is_file() and not path.is_dir():
        yield path
        return
    path = Path(os.path.realpath(path))
    partial = None
    try:
        with held_folder(path.parent, f".{path.name[:_KEPT]}.", _SUFFIX) as folder:
            partial = folder / path.name
            yield partial
            os.replace(partial, path)
    except OSError as error:
        if partial is not None and error.filename not in (None, str(partial), partial):
            raise  # of another file
        # The partial file is ours, and its name would tell the user nothing. numpy reports a full disk without an errno.
        raise OSError(error.errno or errno.EIO, error.strerror or str(error), named) from error


def takes_files(folder: Path) -> bool:
    """Whether a file can be made there: some file systems say that they can be written to, and cannot."""
    try:
        with TemporaryFile(dir=folder):
            return True
    except OSError:
        return False
