"""Linking compiled objects into a shared library, for this machine or another architecture.

The objects hold everything and call only libc and libm, so any linker for the architecture does; a C compiler is merely the usual way to
find one. Undefined maths functions are resolved by the process that loads the library.
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence

from tvm.support import tar, utils

from tvm_rsq.errors import TargetError
from tvm_rsq.targets.spec import TargetSpec

_SMALL = "--strip-debug"  # a tenth of a small network's library, of no use to anyone who has not its IR
_EMULATION = {"aarch64": "aarch64linux", "x86_64": "elf_x86_64"}


def link_function(spec: TargetSpec) -> Callable[..., None]:
    """An `fcompile` for `export_library`. TargetError: no linker for the target is installed, or it failed."""
    command = find_linker(spec)

    def link(output: str, objects: str | Sequence[str], options: Sequence[str] | None = None, **_ignored: object) -> None:
        paths = [objects] if isinstance(objects, str) else list(objects)
        paths = tar.normalize_file_list_by_unpacking_tars(utils.tempdir(), paths)
        done = subprocess.run([*command, "-o", output, *paths, *(options or ())], capture_output=True, text=True, check=False)
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or ["no message"])[0]
            raise TargetError(f"linking for {spec.triple} failed: {command[0]} said {reason!r}")

    link.output_format = "so"
    link.get_target_triple = lambda: spec.triple
    return link


def find_linker(spec: TargetSpec) -> list[str]:
    """The command, up to its outputs and objects, that links a shared library for `spec`."""
    prefix = f"{spec.arch}-linux-gnu-"
    compilers = [f"{prefix}g++", f"{prefix}gcc"] if spec.is_cross else ["cc", "gcc", "g++", "clang"]
    for compiler in compilers:
        if shutil.which(compiler):
            return [compiler, "-shared", "-fPIC", "-lm", f"-Wl,{_SMALL}"]
    linker = ["-m", _EMULATION[spec.arch], "-shared", _SMALL]
    if shutil.which("ld.lld"):
        return ["ld.lld", *linker]
    if importlib.util.find_spec("ziglang"):
        return [sys.executable, "-m", "ziglang", "ld.lld", *linker]
    install = f"apt install g++-{spec.arch.replace('_', '-')}-linux-gnu" if spec.is_cross else "apt install gcc"
    raise TargetError(
        f"no linker for {spec.triple}: found none of {', '.join(compilers)}, ld.lld; run `{install}` or `pip install ziglang`"
    )
