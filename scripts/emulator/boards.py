"""Emulated boards: which there are, and how a session of one is started. One QEMU for each session, with one thread."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from scripts.emulator.count_plugin import CountPlugin
from scripts.emulator.toolchain import QEMU, EmulatorError

# What they lack and have: a72 no dot product, a76 sdot, max smmla and SVE.
DEFAULT_KEYS = ("cortex-a72", "cortex-a76", "max")
# Key -> what QEMU is told; of 7.2, the oldest that is tried. An unknown name would end every session.
CPUS = {
    **{cpu: cpu for cpu in ("cortex-a35", "cortex-a53", "cortex-a57", "cortex-a72", "cortex-a76", "neoverse-n1", "a64fx", "max")},
    # Which it does not know: all that it has, with vectors of these CPUs' lengths.
    "neoverse-n2": "max,sve-max-vq=1",
    "neoverse-v1": "max,sve-max-vq=2",
}
_SHORT = {cpu.removeprefix("cortex-"): cpu for cpu in CPUS}


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """key      what clients ask for
    cpu      what QEMU is told
    plugin   counts the instructions that uploaded libraries execute, see count_plugin.py; None: nothing is counted
    """

    key: str
    cpu: str
    plugin: CountPlugin | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Emulator:
    """What all boards run on: the session server, and the folder of an aarch64 C library.

    quiet  whether what QEMU and TVM print in a session, a line for every upload, goes nowhere: nobody may be reading it
    """

    server: Path
    sysroot: Path
    quiet: bool = True

    def serve_session(self, board: Board, descriptor: int, folder: Path) -> None:
        """Become a session of `board` on the socket `descriptor`; returns only by OSError.

        Uploads lie in folder/files, and what the plugin has to say in folder/counts.
        """
        folder = folder.resolve()  # as the kernel calls what is mapped from it, which is what the plugin compares
        files, counts = folder / "files", folder / "counts"
        files.mkdir()
        os.chdir(files)
        command = [QEMU, "-cpu", board.cpu, "-L", str(self.sysroot), "-E", "TVM_NUM_THREADS=1"]
        if board.plugin is not None:
            command += board.plugin.options([f"{files}/"], counts)
            command += [word for name, value in board.plugin.environment(counts).items() for word in ("-E", f"{name}={value}")]
        command += [str(self.server), str(descriptor), str(files)]
        if self.quiet:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, sys.stdout.fileno())
            os.dup2(nowhere, sys.stderr.fileno())
        os.execvp(command[0], command)


def chosen_boards(keys: Sequence[str], count: int, plugin: CountPlugin | None = None) -> tuple[Board, ...]:
    """`count` boards for each key; a76 is short for cortex-a76.   EmulatorError: a key that is no CPU of QEMU's."""
    boards = []
    for key in keys:
        cpu = _SHORT.get(key, key)
        if cpu not in CPUS:
            raise EmulatorError(f"no CPU {key!r}, expected some of {', '.join(CPUS)}")
        boards += [Board(key=cpu, cpu=CPUS[cpu], plugin=plugin)] * count
    return tuple(boards)
