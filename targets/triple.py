"""LLVM triples: which we compile for. Everything else is refused by the name of what it is."""

from __future__ import annotations

import re

from tvm_rsq.errors import TargetError
from tvm_rsq.targets.host import INSTRUCTION_SETS

_SPELLINGS = {"arm64": "aarch64", "amd64": "x86_64", "x86-64": "x86_64"}
_LINUX = "linux-gnu"
# What begins with these is another system, whatever its version.
_SYSTEMS = {"darwin": "macOS", "macos": "macOS", "apple": "Apple's systems", "ios": "iOS", "windows": "Windows", "android": "Android"}


def parse_triple(triple: str) -> tuple[str, str]:
    """(architecture, full triple): "arm64" is ("aarch64", "aarch64-linux-gnu").

    TargetError: an architecture or system that is not compiled for.
    """
    said, _, rest = triple.partition("-")
    if triple.startswith("x86-64"):
        said, rest = "x86-64", triple.removeprefix("x86-64").removeprefix("-")
    arch = _SPELLINGS.get(said, said)
    if arch not in INSTRUCTION_SETS:
        raise TargetError(f"target: got -mtriple={triple}, {_other(said)}; expected one that begins with {' or '.join(INSTRUCTION_SETS)}")
    parts = rest.split("-") if rest else [_LINUX]
    for part in parts:
        if system := next((name for word, name in _SYSTEMS.items() if part.startswith(word)), None):
            raise TargetError(f"target: got -mtriple={triple}, which is for {system}; only Linux is compiled for, expected {arch}-{_LINUX}")
    if rest and "linux" not in parts:
        raise TargetError(f"target: got -mtriple={triple}, expected a Linux one, {arch}-{_LINUX}")
    after = parts[parts.index("linux") + 1 :] if rest else []
    if after not in ([], ["gnu"]):
        raise TargetError(f"target: got -mtriple={triple}, expected {arch}-{_LINUX}: no other library of C is linked for")
    return arch, f"{arch}-{rest or _LINUX}"


def _other(arch: str) -> str:
    if re.match(r"aarch64_be|arm(v\d.*)?eb$|armeb|thumbeb", arch):
        return "which is big-endian: our kernels are for little-endian CPUs"
    if re.match(r"aarch64_32|arm64_32", arch):
        return "which has 32-bit pointers: they are not compiled for"
    if re.match(r"arm|thumb", arch) and not arch.startswith("arm64"):
        return "which is 32-bit ARM: it has no kernels, but most such CPUs since 2012 run a 64-bit system"
    if re.match(r"i[3-6]86$", arch):
        return "which is 32-bit x86: it has no kernels"
    return "which is another architecture"
