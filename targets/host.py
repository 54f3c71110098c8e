"""What this machine's CPU can do, in LLVM's names.

Asked of the kernel where there is Linux: LLVM names the CPU by its model number and then assumes all that such a CPU has, but a hypervisor
may mask part of it. On aarch64 the kernel answers in the auxiliary vector, on x86-64 in /proc/cpuinfo. An emulator of single processes
(qemu-user) answers for itself in the former, while the latter is often the real machine's: without a line of this architecture it says
nothing. Then, and on other systems, LLVM's word is taken.
"""

from __future__ import annotations

import ctypes
import functools
import os
import platform
from collections.abc import Collection, Sequence
from pathlib import Path

from tvm.target import Target, codegen

from tvm_rsq.targets.aarch64 import cpu_flags as aarch64
from tvm_rsq.targets.x86_64 import cpu_flags as x86_64

INSTRUCTION_SETS = {"x86_64": frozenset(x86_64.FLAGS.values()), "aarch64": frozenset(aarch64.FLAGS.values())}

_FLAGS = {"x86_64": x86_64.FLAGS, "aarch64": aarch64.FLAGS}
_FLAG_LINES = {"x86_64": "flags", "aarch64": "Features"}
_COMPILER_MACROS = {"x86_64": "__x86_64__", "aarch64": "__aarch64__"}

# Lines of /proc/cpuinfo that tell one model of CPU from another: x86 writes its name, ARM the numbers of its maker and design.
_MODEL_LINES = ("model name", "CPU implementer", "CPU part", "CPU variant")

_AT_HWCAP, _AT_HWCAP2 = 16, 26


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
    arch = host_arch()
    flags = _FLAGS.get(arch, {})
    words = _said_by_kernel(arch) or _said_in(cpuinfo, _FLAG_LINES.get(arch, ""))
    if words:
        return frozenset(flags[word] for word in words if word in flags)
    target = Target({"kind": "llvm", "mtriple": host_triple(), "mcpu": codegen.llvm_get_system_cpu()})
    return frozenset(codegen.llvm_get_cpu_features(target)) & frozenset(flags.values())


def kernel_words(arch: str, features: Collection[str]) -> tuple[str, tuple[str, ...]]:
    """The line of /proc/cpuinfo in which Linux on `arch` says what it has, and its words for these features (LLVM's names)."""
    return _FLAG_LINES.get(arch, ""), tuple(word for word, feature in _FLAGS.get(arch, {}).items() if feature in features)


def compiler_macro(arch: str) -> str:
    """What GCC and Clang define when they compile for `arch`; "" of an architecture that is not known here."""
    return _COMPILER_MACROS.get(arch, "")


def kernel_bits(arch: str, words: Sequence[str]) -> tuple[tuple[int, int], ...]:
    """For each of these words, what AT_HWCAP and AT_HWCAP2 have set; () where they do not say what there is, as on x86-64."""
    return tuple(aarch64.hwcap_bits(word) for word in words) if arch == "aarch64" else ()


def host_target() -> dict[str, object]:
    """This machine as a TVM target dict: LLVM's name for the CPU, corrected by what is really there."""
    target: dict[str, object] = {"kind": "llvm", "mtriple": host_triple(), "mcpu": codegen.llvm_get_system_cpu(), "num-cores": host_cores()}
    instruction_sets = INSTRUCTION_SETS.get(host_arch(), frozenset())
    assumed = frozenset(codegen.llvm_get_cpu_features(Target(target))) & instruction_sets
    present = host_features()
    corrections = [f"-{f}" for f in sorted(assumed - present)] + [f"+{f}" for f in sorted(present - assumed)]
    return {**target, "mattr": corrections} if corrections else target


def hwcaps() -> tuple[int, int]:
    """AT_HWCAP and AT_HWCAP2 of this process; zeros where the system has no such thing."""
    getauxval = getattr(ctypes.CDLL(None), "getauxval", None) if platform.system() == "Linux" else None
    if getauxval is None:
        return 0, 0
    getauxval.argtypes, getauxval.restype = [ctypes.c_ulong], ctypes.c_ulong
    return getauxval(_AT_HWCAP), getauxval(_AT_HWCAP2)


def _said_by_kernel(arch: str) -> frozenset[str]:
    # x86-64 has only the bits of CPUID leaf 1 there, which say nothing of AVX2 and later.
    return aarch64.hwcap_words(*hwcaps()) if arch == "aarch64" else frozenset()


def _said_in(cpuinfo: Path, key: str) -> frozenset[str]:
    """The words of the first such line: the first processor's, and so everyone's, for the kernel shows what all of them have."""
    for line in cpuinfo.read_text().splitlines() if cpuinfo.is_file() else ():
        name, _, value = line.partition(":")
        if name.strip() == key:
            return frozenset(value.split())
    return frozenset()
