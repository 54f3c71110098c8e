"""C++ that asks the running CPU for what a library needs, for programs that load one without Python.

A library for another CPU would end the process with an illegal instruction; the function here names what is missing instead. Linux answers
in the auxiliary vector or in /proc/cpuinfo, see `host`.
"""

from __future__ import annotations

import textwrap
from collections.abc import Collection
from dataclasses import dataclass

from tvm_rsq.targets.host import kernel_bits, kernel_words

_BITS = """\
struct Feature {
  const char* word;  // of the line "%(line)s" in /proc/cpuinfo
  unsigned long hwcap, hwcap2;
};
const Feature kNeeded[] = {
%(needed)s
};

const char* Lacking() {
  const unsigned long hwcap = getauxval(AT_HWCAP), hwcap2 = getauxval(AT_HWCAP2);  // emulators of processes fill them in, unlike the file
  for (const Feature& needed : kNeeded) {
    if ((hwcap & needed.hwcap) != needed.hwcap || (hwcap2 & needed.hwcap2) != needed.hwcap2) return needed.word;
  }
  return nullptr;
}"""

_WORDS = """\
// Words of the line "%(line)s" in /proc/cpuinfo.
const char* const kNeeded[] = {
%(needed)s
};

const char* Lacking() {
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);) {
    if (line.rfind("%(line)s", 0)) continue;
    std::istringstream words(line);
    const std::vector<std::string> has{std::istream_iterator<std::string>(words), {}};
    for (const char* needed : kNeeded) {
      if (std::find(has.begin(), has.end(), needed) == has.end()) return needed;
    }
    break;
  }
  return nullptr;
}"""

_NOTHING = "const char* Lacking() { return nullptr; }"


@dataclass(frozen=True, slots=True)
class CpuCheck:
    """`source` defines `const char* Lacking()`, the first word of what this CPU lacks or null; `headers` are what it includes."""

    headers: tuple[str, ...]
    source: str


def cpu_check(arch: str, features: Collection[str]) -> CpuCheck:
    """The check for a library on `arch` that uses `features` (LLVM's names); of an architecture that is not known here nothing is asked."""
    line, words = kernel_words(arch, features)
    if not words:
        return CpuCheck((), _NOTHING)
    if bits := kernel_bits(arch, words):
        rows = (f'    {{"{word}", {hwcap:#x}, {hwcap2:#x}}},' for word, (hwcap, hwcap2) in zip(words, bits, strict=True))
        return CpuCheck(("sys/auxv.h",), _BITS % {"line": line, "needed": "\n".join(rows)})
    headers = ("algorithm", "fstream", "iterator", "sstream", "string", "vector")
    needed = ", ".join(f'"{word}"' for word in words) + ","
    return CpuCheck(headers, _WORDS % {"line": line, "needed": textwrap.fill(needed, 120, initial_indent="    ", subsequent_indent="    ")})
