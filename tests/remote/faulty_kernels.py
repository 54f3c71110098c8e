"""A library whose functions go wrong, each in its own way, for this machine or for aarch64."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

_COMPILERS = {"aarch64": ["aarch64-linux-gnu-gcc"], None: ["cc", "gcc", "clang"]}
_INSTALL = {"aarch64": "apt install g++-aarch64-linux-gnu", None: "apt install gcc"}

_SOURCE = """
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>
#define KERNEL(name) int __tvm_ffi_##name(void *self, const void *arguments, int32_t count, void *result)
KERNEL(fine) { return 0; }
#ifdef __aarch64__
KERNEL(illegal) { __asm__ volatile(".inst 0x00000000"); return 0; }
KERNEL(sdot) { __asm__ volatile(".inst 0x4e829420" ::: "v0"); return 0; }
#else
KERNEL(illegal) { __asm__ volatile("ud2"); return 0; }
#endif
KERNEL(segfault) { *(volatile int *)8 = 1; return 0; }
KERNEL(abort) { abort(); }
KERNEL(leave) { _exit(3); }
KERNEL(hang) { creat("hanging", 0600); for (;;) pause(); }
KERNEL(spin) { for (volatile int i = 0;; i++) ; }
"""


def faulty_library(folder: Path, arch: str | None = None) -> Path:
    """`folder`/faulty.so with the functions fine, illegal, segfault, abort, leave, hang, spin and, for aarch64, sdot.

    hang makes a file `hanging` in the session's folder first.

    arch   None for this machine's
    """
    compiler = next(filter(shutil.which, _COMPILERS[arch]), None)
    if compiler is None:
        pytest.skip(f"none of {', '.join(_COMPILERS[arch])} is installed; run: {_INSTALL[arch]}")
    source, library = folder / "faulty.c", folder / "faulty.so"
    source.write_text(_SOURCE)
    subprocess.run([compiler, "-shared", "-fPIC", "-O0", "-o", str(library), str(source)], check=True)
    return library
