"""What could link a shared library for an architecture, of what is installed here: C compilers, then bare linkers, then zig."""

from __future__ import annotations

import importlib.util
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_STRIP = "-S"  # sections for debuggers: a tenth of a small network's library, of no use to anyone who has not its IR
_COMPILER_OPTIONS = ("-shared", f"-Wl,--as-needed,{_STRIP}")
_EMULATION = {"aarch64": "aarch64linux", "x86_64": "elf_x86_64"}
# The libc that zig builds for itself: as old a one as TVM's own wheels ask for.
_ZIG_LIBC = "2.28"


@dataclass(frozen=True, slots=True)
class Linker:
    """A command that links `[*command, "-o", output, *objects, *libraries]`.

    name      as it is called on the command line
    has_libc  whether it finds the libc of its architecture, and so knows libm; a bare linker does not
    """

    name: str
    command: tuple[str, ...]
    libraries: tuple[str, ...] = ()
    has_libc: bool = False


def linker_candidates(arch: str, *, native: bool) -> Iterator[Linker]:
    """In the order in which they are tried.   native: `arch` is this machine's, whose compilers have no prefix"""
    prefix = rf"{arch}-(\w+-)?linux-gnu-"
    drivers = [rf"{prefix}{driver}" for driver in ("gcc", r"g\+\+", "cc", "clang")]
    for driver in [*(("cc", "gcc", "clang", r"g\+\+") if native else ()), *drivers]:
        for name in _installed(driver):
            yield Linker(name, (name, *_COMPILER_OPTIONS), ("-lm",), has_libc=True)
    bare = ("-m", _EMULATION[arch], "-shared", _STRIP)
    for linker in [r"ld\.lld", rf"{prefix}ld", *(("ld",) if native else ())]:
        for name in _installed(linker):
            yield Linker(name, (name, *bare))
    zigs: list[tuple[str, ...]] = [("zig",)] if list(_installed("zig")) else []
    if importlib.util.find_spec("ziglang"):
        zigs.append((sys.executable, "-m", "ziglang"))
    for zig in zigs:
        yield Linker(f"{_said(zig)} ld.lld", (*zig, "ld.lld", *bare))
    for zig in zigs:
        target = ("-target", f"{arch}-linux-gnu.{_ZIG_LIBC}")
        yield Linker(f"{_said(zig)} cc", (*zig, "cc", *target, *_COMPILER_OPTIONS), ("-lm",), has_libc=True)


def _installed(pattern: str) -> Iterator[str]:
    """Commands of that name on the PATH; those with a version at the end after the plain one, the newest first."""
    found = set()
    for folder in os.environ.get("PATH", os.defpath).split(os.pathsep):
        try:
            names = os.listdir(folder or ".")
        except OSError:
            continue  # the PATH may name what is not there
        found |= {name for name in names if re.fullmatch(rf"{pattern}(-\d+)?", name) and _is_command(Path(folder, name))}
    yield from sorted(found, key=lambda name: (bool(_version(name)), -_version(name), name))


def _is_command(path: Path) -> bool:
    return path.is_file() and os.access(path, os.X_OK)


def _version(name: str) -> int:
    end = re.search(r"-(\d+)$", name)
    return int(end[1]) if end else 0


def _said(zig: tuple[str, ...]) -> str:
    return "zig" if len(zig) == 1 else "python -m ziglang"
