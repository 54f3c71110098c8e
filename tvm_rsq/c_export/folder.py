"""Writing the exported folder: a new one appears whole; of an earlier export its own files are replaced, and the user's are left alone."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

from tvm_rsq.atomic_write import atomic_write
from tvm_rsq.errors import ConfigError
from tvm_rsq.held_folder import held_folder

SUMS = "SHA256SUMS"  # as sha256sum reads it; of an earlier export it tells which files are still as they were written
_OF_EVERY_EXPORT = frozenset({"lib.so", "run.cpp"})


def write_folder(folder: Path, files: Mapping[str, bytes], *, replace: bool = False) -> None:
    """Write `files` and their checksums into `folder`, which is made if need be.

    replace   also over the files of an earlier export, unless they were changed since; those that are no longer written are removed
    ConfigError: `folder` holds something else, or a file of the user's has the name of one to be written. OSError: it cannot be written.
    """
    sums = "".join(f"{_sha256(data)}  {name}\n" for name, data in files.items()).encode()
    folder = Path(os.path.realpath(folder))
    if not folder.exists():
        _write_new(folder, {**files, SUMS: sums})
    elif folder.is_dir() and not any(folder.iterdir()):
        _fill(folder, {**files, SUMS: sums})
    else:
        _replace(folder, files, sums, replace=replace)


def _write_new(folder: Path, files: Mapping[str, bytes]) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with held_folder(folder.parent, f".{folder.name}.", ".partial") as scratch:
        made = scratch / "made"
        made.mkdir()
        for name, data in files.items():
            (made / name).write_bytes(data)
        os.replace(made, folder)


def _fill(folder: Path, files: Mapping[str, bytes]) -> None:
    """An empty folder, which stays the one that it is: someone may stand in it, or have mounted it."""
    try:
        for name, data in files.items():
            _write(folder / name, data)
    except BaseException:
        for name in files:
            (folder / name).unlink(missing_ok=True)
        raise


def _replace(folder: Path, files: Mapping[str, bytes], sums: bytes, *, replace: bool) -> None:
    earlier = _listed(folder / SUMS)
    if not (replace and earlier.keys() >= _OF_EVERY_EXPORT):
        if not folder.is_dir():
            raise ConfigError(f"{folder} is a file, expected a folder to be made; name another")
        known = f"whose {SUMS} lists its files" if replace else "--force replaces an earlier export"
        what = "is there and no earlier export, " if replace else "is there and not empty; "
        raise ConfigError(f"{folder} {what}{known}; name another folder, or remove it")
    for name, data in files.items():
        path = folder / name
        # Of an export that was interrupted, files are there that no list names yet.
        if path.exists() and not (path.is_file() and _sha256(path.read_bytes()) in (earlier.get(name), _sha256(data))):
            what = "was changed since it was exported" if name in earlier else "is no file of the earlier export"
            raise ConfigError(f"{path} {what}, and its name is needed; move or remove it, or name another folder")
    for name, data in files.items():
        _write(folder / name, data)
    for name in earlier.keys() - files.keys():
        path = folder / name
        if path.is_file() and _sha256(path.read_bytes()) == earlier[name]:
            path.unlink()
    _write(folder / SUMS, sums)  # last: until then the old list names what is to be removed


def _write(path: Path, data: bytes) -> None:
    with atomic_write(path) as partial:
        partial.write_bytes(data)


def _listed(sums: Path) -> Mapping[str, str]:
    """File -> its checksum, of files in its own folder, whatever else it holds."""
    lines = sums.read_text("utf-8", "replace").splitlines() if sums.is_file() else []
    found = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    return {name: digest for name, digest in found.items() if name not in ("", ".", "..", SUMS) and "/" not in name and "\0" not in name}


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
