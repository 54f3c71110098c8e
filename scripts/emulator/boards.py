"""Emulated boards: which there are, and how a session of one is started. One QEMU for each session, with one thread."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from scripts.emulator.toolchain import QEMU, EmulatorError

# What they lack and have: a72 no dot product, a76 sdot, max smmla and SVE.
DEFAULT_KEYS = ("cortex-a72", "cortex-a76", "max")
# Of QEMU 7.2, the oldest that is tried. An unknown name would end every session.
CPUS = ("cortex-a35", "cortex-a53", "cortex-a57", "cortex-a72", "cortex-a76", "neoverse-n1", "a64fx", "max")
_SHORT = {cpu.removeprefix("cortex-"): cpu for cpu in CPUS}


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """key      what clients ask for
    cpu      QEMU's name
    plugin   a QEMU plugin that watches every session, such as one that counts instructions; None: none
    """

    key: str
    cpu: str
    plugin: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Emulator:
    """What all boards run on: the session server, and the folder of an aarch64 C library."""

    server: Path
    sysroot: Path

    def serve_session(self, board: Board, descriptor: int, folder: Path) -> None:
        """Become a session of `board` on the socket `descriptor`; returns only by OSError.

        Uploads lie in folder/files. A plugin gets match=folder/files/, the path that begins the names of uploaded libraries, and
        out=folder/counts, a file for what it has to say, which the session server knows as $TVM_RSQ_COUNTS.
        """
        files, counts = folder / "files", folder / "counts"
        files.mkdir()
        os.chdir(files)
        command = [QEMU, "-cpu", board.cpu, "-L", str(self.sysroot), "-E", "TVM_NUM_THREADS=1"]
        if board.plugin is not None:
            command += ["-plugin", f"{board.plugin},match={files}/,out={counts}", "-E", f"TVM_RSQ_COUNTS={counts}"]
        command += [str(self.server), str(descriptor), str(files)]
        os.execvp(command[0], command)


def chosen_boards(keys: Sequence[str], count: int, plugin: Path | None = None) -> tuple[Board, ...]:
    """`count` boards for each key; a76 is short for cortex-a76.   EmulatorError: a key that is no CPU of QEMU's."""
    boards = []
    for key in keys:
        cpu = _SHORT.get(key, key)
        if cpu not in CPUS:
            raise EmulatorError(f"no CPU {key!r}, expected some of {', '.join(CPUS)}")
        boards += [Board(key=cpu, cpu=cpu, plugin=plugin)] * count
    return tuple(boards)
