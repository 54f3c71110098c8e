"""aarch64 CPUs and boards by name, all under Linux. What each can do is what LLVM derives from its mcpu."""

from __future__ import annotations

_ARM = {"kind": "llvm", "mtriple": "aarch64-linux-gnu"}

THAT_MATTER = ("neon", "dotprod", "fullfp16", "i8mm", "bf16", "sve", "sve2")

CPUS: dict[str, dict[str, object]] = {
    # Armv8.0-A, which runs on all of them.
    "aarch64": {**_ARM},
    "cortex-a53": {**_ARM, "mcpu": "cortex-a53", "num-cores": 4},
    "cortex-a55": {**_ARM, "mcpu": "cortex-a55", "num-cores": 4},
    "cortex-a57": {**_ARM, "mcpu": "cortex-a57", "num-cores": 4},
    "cortex-a72": {**_ARM, "mcpu": "cortex-a72", "num-cores": 4},
    "cortex-a73": {**_ARM, "mcpu": "cortex-a73", "num-cores": 4},
    "cortex-a76": {**_ARM, "mcpu": "cortex-a76", "num-cores": 4},
    "cortex-a78": {**_ARM, "mcpu": "cortex-a78", "num-cores": 4},
    # Of servers: how many cores there are is the instance's business.
    "neoverse-n1": {**_ARM, "mcpu": "neoverse-n1"},
    "neoverse-n2": {**_ARM, "mcpu": "neoverse-n2"},
    "neoverse-v1": {**_ARM, "mcpu": "neoverse-v1"},
    "neoverse-v2": {**_ARM, "mcpu": "neoverse-v2"},
    # Under Linux, in a virtual machine of macOS or on the machine itself.
    "apple-m1": {**_ARM, "mcpu": "apple-m1", "num-cores": 8},
}

BOARDS: dict[str, dict[str, object]] = {
    "raspberry-pi-3": {**_ARM, "mcpu": "cortex-a53", "num-cores": 4},
    "raspberry-pi-4": {**_ARM, "mcpu": "cortex-a72", "num-cores": 4},
    "raspberry-pi-5": {**_ARM, "mcpu": "cortex-a76", "num-cores": 4},
    "jetson-nano": {**_ARM, "mcpu": "cortex-a57", "num-cores": 4},
    "jetson-xavier-nx": {**_ARM, "mcpu": "carmel", "num-cores": 6},
    "jetson-agx-xavier": {**_ARM, "mcpu": "carmel", "num-cores": 8},
    # TVM's tag of this name says carmel, which is the CPU of the Xaviers.
    "jetson-orin-nano": {**_ARM, "mcpu": "cortex-a78ae", "num-cores": 6},
    "jetson-orin-nx": {**_ARM, "mcpu": "cortex-a78ae", "num-cores": 8},
    "jetson-agx-orin": {**_ARM, "mcpu": "cortex-a78ae", "num-cores": 12},
}

# Another name -> the preset that it means.
ALIASES: dict[str, str] = {
    "armv8-a": "aarch64",
    "arm64": "aarch64",
    "rpi3": "raspberry-pi-3",
    "rpi4": "raspberry-pi-4",
    "rpi5": "raspberry-pi-5",
    "graviton2": "neoverse-n1",
    "graviton3": "neoverse-v1",
    "graviton4": "neoverse-v2",
}
