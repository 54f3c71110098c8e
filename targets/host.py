"""What this machine's CPU can do, in LLVM's names.

Read from /proc/cpuinfo where there is one: LLVM names the CPU by its model number and then assumes all that such a CPU has, but a
hypervisor may mask part of it. Elsewhere LLVM's word is taken.
"""

from __future__ import annotations

import functools
import os
import platform
from pathlib import Path

from tvm.target import Target, codegen

# /proc/cpuinfo flag -> LLVM feature. The values are all the features that compiled code may depend on: what is not in here
# (tuning hints, system instructions) LLVM does not use by itself.
_X86_FLAGS = {
    "pni": "sse3", "ssse3": "ssse3", "sse4_1": "sse4.1", "sse4_2": "sse4.2", "popcnt": "popcnt", "avx": "avx", "avx2": "avx2",
    "fma": "fma", "f16c": "f16c", "bmi1": "bmi", "bmi2": "bmi2", "abm": "lzcnt", "movbe": "movbe", "adx": "adx",
    "aes": "aes", "pclmulqdq": "pclmul", "sha_ni": "sha", "gfni": "gfni", "vaes": "vaes", "vpclmulqdq": "vpclmulqdq", "sse4a": "sse4a",
    "avx512f": "avx512f", "avx512dq": "avx512dq", "avx512bw": "avx512bw", "avx512vl": "avx512vl", "avx512cd": "avx512cd",
    "avx512ifma": "avx512ifma", "avx512vbmi": "avx512vbmi", "avx512_vbmi2": "avx512vbmi2", "avx512_vnni": "avx512vnni",
    "avx512_bitalg": "avx512bitalg", "avx512_vpopcntdq": "avx512vpopcntdq", "avx512_bf16": "avx512bf16", "avx512_fp16": "avx512fp16",
    "avx_vnni": "avxvnni", "avx_vnni_int8": "avxvnniint8", "avx_vnni_int16": "avxvnniint16", "avx_ifma": "avxifma",
    "amx_tile": "amx-tile", "amx_int8": "amx-int8", "amx_bf16": "amx-bf16",
}  # fmt: skip
_AARCH64_FLAGS = {
    "fp": "fp-armv8", "asimd": "neon", "asimdhp": "fullfp16", "asimddp": "dotprod", "asimdrdm": "rdm", "atomics": "lse", "crc32": "crc",
    "aes": "aes", "sha2": "sha2", "i8mm": "i8mm", "bf16": "bf16", "sve": "sve", "sve2": "sve2", "sme": "sme", "fcma": "complxnum",
    "jscvt": "jsconv", "lrcpc": "rcpc",
}  # fmt: skip

# Lines of /proc/cpuinfo that tell one model of CPU from another: x86 writes its name, ARM the numbers of its maker and design.
_MODEL_LINES = ("model name", "CPU implementer", "CPU part", "CPU variant")

INSTRUCTION_SETS = {"x86_64": frozenset(_X86_FLAGS.values()), "aarch64": frozenset(_AARCH64_FLAGS.values())}


def host_arch() -> str:
    """This machine's architecture: "x86_64", "aarch64", or whatever else it is."""
    machine = platform.machine().lower()
    return {"amd64": "x86_64", "arm64": "aarch64"}.get(machine, machine)


def host_triple() -> str:
    """This machine as an LLVM triple; Linux is spelt without the wheel's vendor part."""
    return f"{host_arch()}-linux-gnu" if platform.system() == "Linux" else codegen.llvm_get_system_triple()


def host_cores() -> int:
    """CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@functools.cache
def host_cpu_model(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """The name of this machine's CPU: equal on machines whose times can be compared."""
    found: dict[str, str] = {}
    for line in cpuinfo.read_text().splitlines() if cpuinfo.is_file() else ():
        key, _, value = line.partition(":")
        if key.strip() in _MODEL_LINES:
            found.setdefault(key.strip(), value.strip())
    return " ".join(found[name] for name in _MODEL_LINES if name in found) or platform.processor() or platform.machine()


@functools.cache
def host_features(cpuinfo: Path = Path("/proc/cpuinfo")) -> frozenset[str]:
    """LLVM names of the instruction sets that this machine really offers."""
    flags = {"x86_64": _X86_FLAGS, "aarch64": _AARCH64_FLAGS}.get(host_arch(), {})
    if not cpuinfo.is_file():
        target = Target({"kind": "llvm", "mtriple": host_triple(), "mcpu": codegen.llvm_get_system_cpu()})
        return frozenset(codegen.llvm_get_cpu_features(target)) & frozenset(flags.values())
    for line in cpuinfo.read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("flags", "Features"):
            return frozenset(flags[flag] for flag in value.split() if flag in flags)
    return frozenset()


def host_target() -> dict[str, object]:
    """This machine as a TVM target dict: LLVM's name for the CPU, corrected by what is really there."""
    target: dict[str, object] = {"kind": "llvm", "mtriple": host_triple(), "mcpu": codegen.llvm_get_system_cpu(), "num-cores": host_cores()}
    instruction_sets = INSTRUCTION_SETS.get(host_arch(), frozenset())
    assumed = frozenset(codegen.llvm_get_cpu_features(Target(target))) & instruction_sets
    present = host_features()
    corrections = [f"-{f}" for f in sorted(assumed - present)] + [f"+{f}" for f in sorted(present - assumed)]
    return {**target, "mattr": corrections} if corrections else target
