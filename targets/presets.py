"""Names for common targets. Every other CPU is reached with `llvm -mtriple=... -mcpu=...`."""

from __future__ import annotations

from tvm_rsq.targets.aarch64 import presets as aarch64
from tvm_rsq.targets.cuda import gpus
from tvm_rsq.targets.x86_64 import presets as x86_64

# As they are listed: title -> name -> TVM target dict.
GROUPS: dict[str, dict[str, dict[str, object]]] = {
    "x86-64": x86_64.CPUS,
    "aarch64": aarch64.CPUS,
    "aarch64 boards": aarch64.BOARDS,
    "NVIDIA GPUs": gpus.CARDS,
}

PRESETS: dict[str, dict[str, object]] = {name: target for group in GROUPS.values() for name, target in group.items()}

ALIASES: dict[str, str] = {**aarch64.ALIASES, **gpus.ALIASES}


def find_preset(name: str) -> dict[str, object] | None:
    """A copy of the target dict of a preset or of an alias; None for any other word."""
    found = PRESETS.get(ALIASES.get(name, name))
    return None if found is None else dict(found)


def aliases_of(name: str) -> list[str]:
    """The aliases of a preset."""
    return [alias for alias, preset in ALIASES.items() if preset == name]


def features_that_matter(arch: str, features: frozenset[str]) -> list[str]:
    """Those, in LLVM's names, that decide which kernels a CPU gets and how fast they are, the oldest first."""
    known = [*{"x86_64": x86_64.THAT_MATTER, "aarch64": aarch64.THAT_MATTER}[arch], *gpus.PROCESSORS]
    return [feature for feature in known if feature in features]
