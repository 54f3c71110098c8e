"""Finds llvm-mca and llvm-mc: of one version, and of one that describes the CPUs."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass

from tvm_rsq.errors import TargetError

OLDEST, NEWEST = 19, 30  # before 19, neoverse-n1, n2 and v1 had the pipeline of a cortex-a57
_INSTALL = f"apt install llvm-{OLDEST}"


@dataclass(frozen=True, slots=True)
class LlvmTools:
    """Commands: mca models a pipeline, mc disassembles; version: LLVM's, such as "19.1.7"."""

    mca: str
    mc: str
    version: str


def find_llvm_tools() -> LlvmTools:
    """The oldest that will do, by the names that distributions give them, so that a newer one beside it changes no figure.

    TargetError: there is none, or what there is is too old.
    """
    refused = ""
    for suffix in (*(f"-{version}" for version in range(OLDEST, NEWEST)), ""):
        mca, mc = f"llvm-mca{suffix}", f"llvm-mc{suffix}"
        if shutil.which(mca) is None or shutil.which(mc) is None:
            continue
        versions = [_version(mca), _version(mc)]
        if versions[0] == versions[1] and int(versions[0].split(".")[0]) >= OLDEST:
            return LlvmTools(mca, mc, versions[0])
        refused = refused or f"{mca} is version {versions[0]}, {mc} version {versions[1]}"
    raise TargetError(f"modelled cycles need llvm-mca and llvm-mc {OLDEST} or newer: {refused or 'neither is installed'}; run: {_INSTALL}")


def complaint(messages: str) -> str:
    """Of an LLVM tool, with the line it is about: the first error, else the first warning."""
    lines = [line.strip() for line in messages.splitlines()]
    for kind in ("error: ", "warning: "):
        for i, line in enumerate(lines):
            if kind in line:
                about = re.sub(r"\s+", " ", " ".join(lines[i + 1 : i + 2]))
                return f"{line.split(kind, 1)[1].rstrip('.')}: {about}"
    return (lines or ["no message"])[0]


def _version(command: str) -> str:
    done = subprocess.run([command, "--version"], capture_output=True, text=True, check=False)
    found = re.search(r"version (\d[\w.]*)", done.stdout)
    return found.group(1) if found else "0"
