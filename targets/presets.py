"""Names for common targets. Every other CPU is reached with `llvm -mtriple=... -mcpu=...`."""

from __future__ import annotations

_X86 = {"kind": "llvm", "mtriple": "x86_64-linux-gnu"}
_ARM = {"kind": "llvm", "mtriple": "aarch64-linux-gnu"}

PRESETS: dict[str, dict[str, object]] = {
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
    "aarch64": {**_ARM},
    "cortex-a53": {**_ARM, "mcpu": "cortex-a53", "num-cores": 4},
    "cortex-a72": {**_ARM, "mcpu": "cortex-a72", "num-cores": 4},
    "cortex-a76": {**_ARM, "mcpu": "cortex-a76", "num-cores": 4},
    "neoverse-n1": {**_ARM, "mcpu": "neoverse-n1"},
    "neoverse-n2": {**_ARM, "mcpu": "neoverse-n2"},
    "neoverse-v1": {**_ARM, "mcpu": "neoverse-v1"},
}
