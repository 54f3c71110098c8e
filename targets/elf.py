"""The little of ELF that linking has to know: an object with nothing in it, and what a library is for."""

from __future__ import annotations

import struct
from pathlib import Path

_MACHINES = {"x86_64": 62, "aarch64": 183}
_MAGIC = b"\x7fELF\x02\x01\x01"  # 64 bits, little-endian, version 1
_RELOCATABLE, _SHARED = 1, 3
_HEADER, _SECTION = struct.Struct("<16sHHIQQQIHHHHHH"), struct.Struct("<IIQQQQIIQQ")


def empty_object(arch: str) -> bytes:
    """An object file for `arch` with no code, no data and no symbols."""
    names = b"\0.shstrtab\0"
    sections = _SECTION.size * 2
    header = _HEADER.pack(
        _MAGIC, _RELOCATABLE, _MACHINES[arch], 1, 0, 0, _HEADER.size, 0, _HEADER.size, 0, 0, _SECTION.size, 2, 1
    )  # fmt: skip
    table = bytes(_SECTION.size) + _SECTION.pack(1, 3, 0, 0, _HEADER.size + sections, len(names), 0, 0, 1, 0)
    return header + table + names


def is_shared_library(path: Path, arch: str) -> bool:
    """Whether the file is a shared library for `arch`; False for one that is not there."""
    start = path.read_bytes()[: _HEADER.size] if path.is_file() else b""
    return start.startswith(_MAGIC) and len(start) == _HEADER.size and struct.unpack_from("<HH", start, 16) == (_SHARED, _MACHINES[arch])
