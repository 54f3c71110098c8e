"""ONNX Runtime for aarch64, out of its wheel, and the program that counts it, compiled once for every state of its source."""

from __future__ import annotations

import hashlib
import os
import subprocess
import tempfile
from pathlib import Path

from scripts.emulator.toolchain import COMPILER, EmulatorError, sysroot
from scripts.emulator.unpack_wheels import Wheel, unpacked_wheels
from scripts.models.fetch import default_cache

VERSION = "1.32.0"  # that of constraints.txt
WHEEL = Wheel(
    "onnxruntime",
    VERSION,
    "2303372a85299b6757b0e11e1cbf13e410ddf7e10c37f4b37e99d1c90e7daf7c",
    (f"onnxruntime/capi/libonnxruntime.so.{VERSION}",),
)
_RUNNER = Path(__file__).with_name("onnx_runner.c")
_FLAGS = ("-x", "c", "-std=gnu17", "-O1", "-Wall", "-Wextra", "-Werror")  # not C23, in which functions without arguments take none
# Arm's part numbers; QEMU's "max" is told to be an n2.
_PARTS = {
    "cortex-a35": 0xD04, "cortex-a53": 0xD03, "cortex-a57": 0xD07, "cortex-a72": 0xD08, "cortex-a76": 0xD0B, "neoverse-n1": 0xD0C,
    "neoverse-n2": 0xD49, "neoverse-v1": 0xD40, "max": 0xD49,
}  # fmt: skip


def onnxruntime_library(cache: Path | None = None) -> Path:
    """libonnxruntime.so for aarch64.   EmulatorError: it cannot be fetched."""
    return unpacked_wheels(f"aarch64-onnxruntime-{VERSION}", (WHEEL,), cache) / WHEEL.keep[0]


def onnx_runner(cache: Path | None = None) -> Path:
    """The program onnx_runner.c.   EmulatorError: it cannot be compiled."""
    folder = cache or default_cache()
    version = subprocess.run([COMPILER, "--version"], check=True, capture_output=True).stdout
    runner = folder / f"aarch64-onnx-runner-{hashlib.sha256(version + _RUNNER.read_bytes()).hexdigest()[:12]}"
    if not runner.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            made = Path(scratch) / "onnx_runner"
            done = subprocess.run([COMPILER, *_FLAGS, "-o", str(made), str(_RUNNER), "-ldl"], capture_output=True, text=True, check=False)
            if done.returncode:
                error = next((line for line in done.stderr.splitlines() if "error" in line), "no message")
                raise EmulatorError(f"{COMPILER} cannot compile {_RUNNER.name}: {error}")
            os.replace(made, runner)
    return runner


def guest_root(folder: Path, cpu: str) -> Path:
    """`folder`, made into what QEMU takes for the guest's root: the C library, and /proc/cpuinfo of one core of `cpu`.

    ONNX Runtime reads there what core it runs on, and dies of what an x86 machine says; it asks the kernel for the instruction sets, as it
    should. A folder that a file is not in is looked up on this machine.
    """
    (folder / "proc").mkdir(parents=True)
    (folder / "lib").symlink_to(sysroot() / "lib")
    core = {
        "processor": "0", "CPU implementer": "0x41", "CPU architecture": "8", "CPU variant": "0x1", "CPU part": f"{_PARTS[cpu]:#x}",
        "CPU revision": "0",
    }  # fmt: skip
    (folder / "proc" / "cpuinfo").write_text("".join(f"{name}\t: {value}\n" for name, value in core.items()) + "\n")
    cores = folder / "sys" / "devices" / "system" / "cpu"
    cores.mkdir(parents=True)
    for name in ("possible", "present"):
        (cores / name).write_text("0\n")
    return folder
