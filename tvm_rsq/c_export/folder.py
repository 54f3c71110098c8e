"""Writing the exported folder: a new one appears whole; of an earlier export its own files are replaced, and the user's are left alone."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

from tvm_rsq.atomic_write import atomic_write
from tvm_rsq.errors import ConfigError
from tvm_rsq.held_folder import held_folder

SUMS = "SHA256SUMS"  # as sha256sum reads it; its names are the files that are ours
_OF_EVERY_EXPORT = frozenset({"lib.so", "run.cpp"})


def write_folder(folder: Path, files: Mapping[str, bytes], *, replace: bool = False) -> None:
    """Write `files` and their checksums.

    replace   also over the files that the SHA256SUMS of an earlier export lists; those that are no longer written are removed
    ConfigError: `folder` holds something else, or a file of the user's has the name of one to be written. OSError: it cannot be written.
    """
    sums = "".join(f"{_sha256(data)}  {name}\n" for name, data in files.items()).encode()
    folder = Path(os.path.realpath(folder))
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        _write_new(folder, {**files, SUMS: sums})
        return
    earlier = _listed(folder / SUMS)
    if not (replace and earlier >= _OF_EVERY_EXPORT):
        how = "name another folder, or remove it" + ("" if replace else "; --force replaces an earlier export")
        raise ConfigError(f"{folder} is there and not empty; {how}")
    for name, data in files.items():
        path = folder / name
        # Of an export that was interrupted, files are there that no list names yet.
        if name not in earlier and path.exists() and not (path.is_file() and path.read_bytes() == data):
            raise ConfigError(f"{path} is no file of the earlier export, and its name is needed; move it, or name another folder")
    for name, data in files.items():
        _write(folder / name, data)
    for name in earlier - files.keys():
        if (folder / name).is_file():
            (folder / name).unlink()
    _write(folder / SUMS, sums)  # last: until then the old list names what is to be removed


def _write_new(folder: Path, files: Mapping[str, bytes]) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with held_folder(folder.parent, f".{folder.name}.", ".partial") as scratch:
        made = scratch / "made"
        made.mkdir()
        for name, data in files.items():
            (made / name).write_bytes(data)
        os.replace(made, folder)


def _write(path: Path, data: bytes) -> None:
    with atomic_write(path) as partial:
        partial.write_bytes(data)


def _listed(sums: Path) -> frozenset[str]:
    """The names in it: of files in its own folder, whatever else it holds."""
    lines = sums.read_text("utf-8", "replace").splitlines() if sums.is_file() else []
    names = (line.partition("  ")[2] for line in lines)
    return frozenset(name for name in names if name not in ("", ".", "..", SUMS) and "/" not in name and "\0" not in name)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
