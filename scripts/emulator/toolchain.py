"""The programs that an emulated board needs; on Debian they are installed, if the user may."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

PACKAGES = {"qemu-aarch64": "qemu-user", "aarch64-linux-gnu-g++": "g++-aarch64-linux-gnu"}
QEMU, COMPILER = PACKAGES


class EmulatorError(Exception):
    """The emulator cannot start; the message is one line for the user."""


def missing() -> list[str]:
    """The Debian packages of the programs that are not there."""
    return [package for command, package in PACKAGES.items() if shutil.which(command) is None]


def install_line(packages: list[str]) -> str:
    """What installs `packages` on Debian."""
    return f"apt-get install -y --no-install-recommends {' '.join(packages)}"


def ensure_toolchain(*, install: bool) -> None:
    """Make sure that QEMU and the cross compiler are there.

    install   install them where apt-get is there and may be used
    EmulatorError: they are missing, with the line that installs them.
    """
    wanted = missing()
    if not wanted:
        return
    if install and shutil.which("apt-get") and os.geteuid() == 0:
        environment = dict(os.environ, DEBIAN_FRONTEND="noninteractive")
        for command in ("apt-get update", install_line(wanted)):
            done = subprocess.run(command.split(), capture_output=True, text=True, env=environment, check=False)
        wanted = missing()
        if not wanted:
            return
        last = ((done.stderr or done.stdout).strip().splitlines() or ["no message"])[-1]
        raise EmulatorError(f"{install_line(wanted)} failed: {last}")
    raise EmulatorError(f"{', '.join(wanted)} not installed; run: {install_line(wanted)}")


def check_cpus(cpus: Iterable[str]) -> None:
    """EmulatorError: this QEMU does not know one of them, which would end every session.

    cpus   as its -cpu takes them: properties may follow behind a comma
    """
    shown = subprocess.run([QEMU, "-cpu", "help"], check=False, capture_output=True, text=True).stdout  # its exit status says nothing
    unknown = sorted({cpu.partition(",")[0] for cpu in cpus} - set(shown.split()))
    if unknown:
        version = subprocess.run([QEMU, "--version"], check=True, capture_output=True, text=True).stdout.splitlines()[0]
        raise EmulatorError(f"{version} knows no CPU {', '.join(unknown)}; install QEMU 7.2 or newer, or name others by --keys")


def sysroot() -> Path:
    """Where the cross compiler's C library is installed, for QEMU to look in."""
    libc = subprocess.run([COMPILER, "-print-file-name=libc.so.6"], check=True, capture_output=True, text=True).stdout.strip()
    return Path(libc).resolve().parents[1]
