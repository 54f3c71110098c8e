"""x86-64 CPUs by name."""

from __future__ import annotations

_X86 = {"kind": "llvm", "mtriple": "x86_64-linux-gnu"}

THAT_MATTER = ("ssse3", "avx2", "fma", "avx512bw", "avx512vnni", "avxvnni")

CPUS: dict[str, dict[str, object]] = {
    "x86-64": {**_X86, "mcpu": "x86-64"},
    "x86-64-v2": {**_X86, "mcpu": "x86-64-v2"},
    "x86-64-v3": {**_X86, "mcpu": "x86-64-v3"},
    "x86-64-v4": {**_X86, "mcpu": "x86-64-v4"},
    # Every AVX-512 CPU since Cascade Lake (2019) and Zen 4.
    "x86-64-vnni": {**_X86, "mcpu": "x86-64-v4", "mattr": ["+avx512vnni"]},
    "haswell": {**_X86, "mcpu": "haswell"},
    "skylake-avx512": {**_X86, "mcpu": "skylake-avx512"},
    "cascadelake": {**_X86, "mcpu": "cascadelake"},
    "icelake-server": {**_X86, "mcpu": "icelake-server"},
    "alderlake": {**_X86, "mcpu": "alderlake"},
    "sapphirerapids": {**_X86, "mcpu": "sapphirerapids"},
    "znver3": {**_X86, "mcpu": "znver3"},
    "znver4": {**_X86, "mcpu": "znver4"},
}
