"""Damage to a .rsq file: of its bytes, of the archive, and of what it holds with every checksum put right."""

from __future__ import annotations

import hashlib
import io
import json
import struct
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np

from scripts.survival.corrupt_bytes import BYTES

Parts = dict[str, bytes]
_VALUES = (None, "", "x" * 10_000, -1, 0, 2**31, 2**62, 1e300, [], {}, [[]], True, [1, 2, 3], {"a": 1}, "../../etc/passwd", "\0", "重み")


def read_parts(data: bytes) -> Parts:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def write(parts: Parts, *, put_right: bool = False, more: Parts | None = None, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """An archive.   put_right: checksums; more: members behind the others, of whatever name"""
    parts = dict(parts)
    if put_right:
        manifest = json.loads(parts["manifest.json"])
        if isinstance(manifest, dict) and isinstance(manifest.get("parts"), dict):
            for name in manifest["parts"]:
                if name in parts:
                    manifest["parts"][name] = {"sha256": hashlib.sha256(parts[name]).hexdigest(), "bytes": len(parts[name])}
            parts["manifest.json"] = json.dumps(manifest).encode()
        parts["sha256"] = hashlib.sha256(parts["manifest.json"]).hexdigest().encode()
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, data in [*parts.items(), *(more or {}).items()]:
            archive.writestr(zipfile.ZipInfo(name), data, method)
    return file.getvalue()


def stale_library(data: bytes, rng: np.random.Generator, evil: bytes) -> bytes:
    """Another library, which leaves a trace when it is loaded, under the old checksum."""
    parts = read_parts(data)
    return write({**parts, "lib.so": evil})


def stale_part(data: bytes, rng: np.random.Generator, evil: bytes) -> bytes:
    """A part that was changed, under the old checksum."""
    parts = read_parts(data)
    name = str(rng.choice(sorted(parts)))
    kind = str(rng.choice(sorted(BYTES)))
    return write({**parts, name: BYTES[kind](parts[name], rng)})


def bomb(data: bytes, rng: np.random.Generator, evil: bytes) -> bytes:
    """A part that unpacks to 100 MB to 2 GB, or says so, or does and says something else."""
    parts = read_parts(data)
    name, size = str(rng.choice(sorted(parts))), int(rng.choice([10**8, 2 * 10**9]))
    match int(rng.integers(3)):
        case 0:
            return write({**parts, name: bytes(10**8)}, put_right=name not in ("manifest.json", "sha256"))
        case 1:
            return _patched(write(parts), name, size)
        case _:
            return _patched(write({**parts, name: bytes(10**8)}), name, len(parts[name]))


def members(data: bytes, rng: np.random.Generator, evil: bytes) -> bytes:
    """Names that climb, twice the same name, thousands of members, another method of compression, an encrypted one."""
    parts = read_parts(data)
    match int(rng.integers(5)):
        case 0:
            climbing = str(rng.choice(["../../lib.so", "/tmp/lib.so", "a/../../b", "C:\\x", "lib.so/"]))
            return write(parts, more={climbing: evil})
        case 1:
            twice = _renamed(write(parts, more={"LIB.SO": evil}), b"LIB.SO", b"lib.so")
            return twice
        case 2:
            return write(parts, more={f"part-{number}": b"" for number in range(20_000)})
        case 3:
            return write(parts, method=int(rng.choice([zipfile.ZIP_STORED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])))
        case _:
            return _flagged(write(parts))


def manifest(data: bytes, rng: np.random.Generator, evil: bytes) -> bytes:
    """The manifest says something else, with right checksums."""
    parts = read_parts(data)
    text = json.dumps(_tampered(json.loads(parts["manifest.json"]), rng))
    return write({**parts, "manifest.json": text.encode()}, put_right=True)


def plan_or_report(data: bytes, rng: np.random.Generator, evil: bytes) -> bytes:
    """The plan or the report says something else, with right checksums; or nests as deep as no parser goes."""
    parts = read_parts(data)
    name = str(rng.choice(["plan.json", "report.json"]))
    if rng.random() < 0.1:
        return write({**parts, name: b"[" * 200_000}, put_right=True)
    return write({**parts, name: json.dumps(_tampered(json.loads(parts[name]), rng)).encode()}, put_right=True)


KNOWING: dict[str, Callable[[bytes, np.random.Generator, bytes], bytes]] = {
    "library under an old checksum": stale_library, "part under an old checksum": stale_part, "bomb": bomb, "members": members,
    "manifest": manifest, "plan or report": plan_or_report,
}  # fmt: skip
KINDS = (*BYTES, *KNOWING)


def corrupt(sound: bytes, kind: str, rng: np.random.Generator, evil: bytes) -> bytes:
    return BYTES[kind](sound, rng) if kind in BYTES else KNOWING[kind](sound, rng, evil)


def _tampered(record: Any, rng: np.random.Generator) -> Any:
    """One value somewhere inside is another, is missing, or is there once more."""
    inside, last = record, None
    while isinstance(inside, (dict, list)) and inside and (last is None or rng.random() < 0.8):
        key = str(rng.choice(sorted(inside))) if isinstance(inside, dict) else int(rng.integers(len(inside)))
        last, inside = (inside, key), inside[key]
    if last is None:
        return record
    holder, key = last
    if rng.random() < 0.2:
        del holder[key]
    else:
        holder[key] = _VALUES[int(rng.integers(len(_VALUES)))]
    return record


def _patched(data: bytes, name: str, size: int) -> bytes:
    """Another unpacked size in both headers of a member."""
    made, encoded = bytearray(data), name.encode()
    for signature, at, length in ((b"PK\x03\x04", 22, 30), (b"PK\x01\x02", 24, 46)):
        position = made.find(signature)
        while position >= 0:
            if made[position + length : position + length + len(encoded)] == encoded:
                struct.pack_into("<I", made, position + at, min(size, 2**32 - 1))
            position = made.find(signature, position + 4)
    return bytes(made)


def _renamed(data: bytes, old: bytes, new: bytes) -> bytes:
    return data.replace(old, new)


def _flagged(data: bytes) -> bytes:
    """Every member says that it is encrypted."""
    made = bytearray(data)
    for signature, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        position = made.find(signature)
        while position >= 0:
            made[position + at] |= 1
            position = made.find(signature, position + 4)
    return bytes(made)
