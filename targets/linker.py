"""Linking compiled objects into a shared library, for this machine or another architecture.

The objects hold everything and call only libc, libm and the runtime, so any linker for the architecture does; a C compiler is merely the
usual way to find one. Of those that are installed, the first is taken that links an empty object. The library says that it needs libm, so
that the process that loads it need not have it: a bare linker, which has no libm to link, gets an empty library of that name.
"""

from __future__ import annotations

import functools
import os
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from tvm.support import tar, utils

from tvm_rsq.atomic_write import atomic_write
from tvm_rsq.errors import TargetError
from tvm_rsq.held_folder import scratch_folder
from tvm_rsq.targets.elf import empty_object, is_shared_library
from tvm_rsq.targets.linker_candidates import Linker, linker_candidates
from tvm_rsq.targets.spec import TargetSpec

_LIBM = "libm.so.6"
_LIMIT_S = 300  # zig builds a libc of its own the first time, which takes half a minute


def link_function(spec: TargetSpec) -> Callable[..., None]:
    """An `fcompile` for `export_library`: the output is there whole or not at all.

    TargetError: no linker for the target works here, or it failed.
    """
    return _Link(find_linker(spec), spec.arch, spec.triple)


@dataclass(frozen=True, slots=True)
class _Link:
    """With what TVM asks an `fcompile` for."""

    linker: Linker
    arch: str
    triple: str
    output_format: ClassVar[str] = "so"

    def get_target_triple(self) -> str:
        return self.triple

    def __call__(self, output: str, objects: str | Sequence[str], options: Sequence[str] | None = None, **_ignored: object) -> None:
        paths = [objects] if isinstance(objects, str) else list(objects)
        with scratch_folder() as folder, atomic_write(output) as partial:
            paths = tar.normalize_file_list_by_unpacking_tars(utils.tempdir(str(folder / "unpacked")), paths)
            if reason := _link(self.linker, self.arch, folder, [*paths, *(options or ())], partial):
                raise TargetError(f"linking for {self.triple} failed: {self.linker.name} {reason}")


def find_linker(spec: TargetSpec) -> Linker:
    """The first of `linker_candidates` that links for `spec`.   TargetError: none does; it says what was tried, and what to install."""
    failed = []
    for linker in linker_candidates(spec.arch, native=not spec.is_cross):
        reason = _trial(linker, spec.arch, os.environ.get("PATH", ""))
        if not reason:
            return linker
        failed.append(f"{linker.name} {reason}")
    usual, package = f"{spec.arch}-linux-gnu-gcc", f"g++-{spec.arch.replace('_', '-')}-linux-gnu"
    if not spec.is_cross:
        usual, package = "cc", "gcc"
    tried = "; ".join(failed) or f"none of {usual}, ld.lld, zig is installed"
    raise TargetError(f"no linker for {spec.triple}: {tried}; run `apt install {package}`, `apt install lld` or `pip install ziglang`")


@functools.cache
def _trial(linker: Linker, arch: str, _path: str) -> str:
    """Why it does not link for `arch` with that PATH, "" if it does."""
    with scratch_folder() as folder:
        return _link(linker, arch, folder, [], folder / "trial.so")


def _link(linker: Linker, arch: str, folder: Path, inputs: Sequence[str], output: Path) -> str:
    """Link into `output`, with `folder` for what that takes, and say why it failed, "" if it did not."""
    empty = folder / "empty.o"
    empty.write_bytes(empty_object(arch))
    libraries = linker.libraries
    if not linker.has_libc:
        libm = folder / _LIBM
        if reason := _run([*linker.command, "-soname", _LIBM, "-o", str(libm), str(empty)], folder):
            return reason
        libraries = (*libraries, "--no-as-needed", str(libm))
    if reason := _run([*linker.command, "-o", str(output), *(inputs or [str(empty)]), *libraries], folder):
        return reason
    return "" if is_shared_library(output, arch) else f"made no shared library for {arch}"


def _run(command: Sequence[str], folder: Path) -> str:
    environment = {**os.environ, "TMPDIR": str(folder)}  # what a compiler that is killed leaves behind goes with the folder
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", check=False, timeout=_LIMIT_S, env=environment
        )
    except OSError as error:
        return f"cannot be run ({error.strerror})"
    except subprocess.TimeoutExpired:
        return f"was not done after {_LIMIT_S} s"
    if not done.returncode:
        return ""
    lines = done.stderr.strip().splitlines()
    return f"said {lines[0]!r}" if lines else f"ended with {done.returncode}"
