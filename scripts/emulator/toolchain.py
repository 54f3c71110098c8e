"""The programs that an emulated board needs; on Debian they are installed, if the user may."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

from tvm_rsq.errors import TargetError
from tvm_rsq.targets.llvm_tools import OLDEST, find_llvm_tools

PACKAGES = {"qemu-aarch64": "qemu-user", "aarch64-linux-gnu-g++": "g++-aarch64-linux-gnu"}
QEMU, COMPILER = PACKAGES
LLVM = f"llvm-{OLDEST}"  # boards do without; modelled cycles of what they count do not


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
    if wanted and install and _may_install():
        failure = _install(wanted)
        wanted = missing()
        if wanted:
            raise EmulatorError(f"{install_line(wanted)} failed: {failure}")
    if wanted:
        raise EmulatorError(f"{', '.join(wanted)} not installed; run: {install_line(wanted)}")


def ensure_llvm(*, install: bool) -> None:
    """The same for what models cycles."""
    lacking = _llvm_lacking()
    if lacking and install and _may_install():
        failure = _install([LLVM])
        lacking = _llvm_lacking() and f"{install_line([LLVM])} failed: {failure}"
    if lacking:
        raise EmulatorError(lacking)


def _llvm_lacking() -> str:
    try:
        find_llvm_tools()
    except TargetError as error:
        return str(error)
    return ""


def _may_install() -> bool:
    return shutil.which("apt-get") is not None and os.geteuid() == 0


def _install(packages: list[str]) -> str:
    """The last line that was printed."""
    environment = dict(os.environ, DEBIAN_FRONTEND="noninteractive")
    for command in ("apt-get update", install_line(packages)):
        done = subprocess.run(command.split(), capture_output=True, text=True, env=environment, check=False)
    return ((done.stderr or done.stdout).strip().splitlines() or ["no message"])[-1]


def check_cpus(cpus: Iterable[str]) -> None:
    """EmulatorError: this QEMU does not know one of them, which would end every session.

    cpus   as its -cpu takes them: properties may follow behind a comma
    """
    shown = subprocess.run([QEMU, "-cpu", "help"], check=False, capture_output=True, text=True).stdout  # its exit status says nothing
    unknown = sorted({cpu.partition(",")[0] for cpu in cpus} - set(shown.split()))
    if unknown:
        what = f"{QEMU} version {qemu_version()} knows no CPU {', '.join(unknown)}"
        raise EmulatorError(f"{what}; install QEMU 7.2 or newer, or name others by --keys")


def qemu_version() -> str:
    """Such as 7.2.22."""
    return subprocess.run([QEMU, "--version"], check=True, capture_output=True, text=True).stdout.split()[2]


def sysroot() -> Path:
    """Where the cross compiler's C library is installed, for QEMU to look in."""
    libc = subprocess.run([COMPILER, "-print-file-name=libc.so.6"], check=True, capture_output=True, text=True).stdout.strip()
    return Path(libc).resolve().parents[1]
