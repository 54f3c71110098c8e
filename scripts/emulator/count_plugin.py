"""The counting plugin, built by this machine's C compiler, and the options that make qemu use it."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from scripts.emulator.toolchain import QEMU
from scripts.models.fetch import default_cache
from tvm_rsq.atomic_write import atomic_write
from tvm_rsq.errors import TargetError

_SOURCE = Path(__file__).with_name("count_plugin.c")
_HEADERS = tuple(Path(__file__).with_name(name) for name in ("instruction_kinds.h", "plugin_interface.h"))
_VARIABLE = "TVM_RSQ_COUNTS"  # read by counts.cc and by what counts itself


@dataclass(frozen=True, slots=True)
class CountPlugin:
    """library: the plugin"""

    library: Path

    def options(self, matches: Sequence[str], out: Path) -> list[str]:
        """For QEMU's command line: count in files whose path contains one of `matches`; the counts go through the file `out`.

        TargetError: a text that would end its option.
        """
        for text in (str(self.library), str(out), *matches):
            if "," in text:
                raise TargetError(f"a path to count by is {text!r}, expected one without a comma; use another folder")
        return ["-plugin", ",".join([str(self.library), *(f"match={text}" for text in matches), f"out={out}"])]

    def environment(self, out: Path) -> Mapping[str, str]:
        """For the guest."""
        return {_VARIABLE: str(out)}


def count_plugin(cache: Path | None = None) -> CountPlugin:
    """Built into the cache, once for each version of its source.

    TargetError: qemu is not installed or takes no plugins; no C compiler, or it fails.
    """
    check_counting()
    folder, source = cache or default_cache(), b"".join(file.read_bytes() for file in (_SOURCE, *_HEADERS))
    library = folder / f"count-plugin-{hashlib.sha256(source).hexdigest()[:12]}.so"
    if not library.exists():
        compiler = next(filter(shutil.which, ("cc", "gcc", "clang")), None)
        if compiler is None:
            raise TargetError("no C compiler for the emulator's counting plugin; run: apt install gcc")
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_write(library) as partial:
            command = [compiler, "-O2", "-shared", "-fPIC", "-fvisibility=hidden", "-o", str(partial), str(_SOURCE)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                reason = (done.stderr.strip().splitlines() or ["no message"])[0]
                raise TargetError(f"the emulator's counting plugin cannot be built: {reason}")
    return CountPlugin(library)


def check_counting() -> None:
    """TargetError: qemu is not installed, or one that takes no plugins."""
    if shutil.which(QEMU) is None:
        raise TargetError(f"{QEMU} is not installed; run: apt install qemu-user")
    done = subprocess.run([QEMU, "-help"], capture_output=True, text=True, check=False)
    if "-plugin" not in done.stdout:
        raise TargetError(f"{QEMU} takes no plugins, so it cannot count; install the package qemu-user, not qemu-user-static")
