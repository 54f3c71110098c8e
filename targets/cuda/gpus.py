"""NVIDIA GPUs: architectures that kernels are compiled for, cards by name, and the one that this machine has."""

from __future__ import annotations

import functools
from collections.abc import Mapping

import tvm

# Architecture -> multiprocessors of its best-known card, among which untuned kernels share the work. Older ones have no int8 tensor cores.
PROCESSORS: Mapping[str, int] = {
    "sm_75": 40, "sm_80": 108, "sm_86": 82, "sm_87": 16, "sm_89": 58, "sm_90": 132, "sm_100": 148, "sm_120": 84,
}  # fmt: skip
PORTABLE = "sm_80"  # where no architecture is named and no GPU is there

_ORIN: dict[str, object] = {
    "kind": "cuda", "arch": "sm_87", "host": {"kind": "llvm", "mtriple": "aarch64-linux-gnu", "mcpu": "cortex-a78ae"},
}  # fmt: skip

CARDS: dict[str, dict[str, object]] = {
    "nvidia-t4": {"kind": "cuda", "arch": "sm_75"},
    "nvidia-a100": {"kind": "cuda", "arch": "sm_80"},
    "nvidia-a10": {"kind": "cuda", "arch": "sm_86"},
    "nvidia-l4": {"kind": "cuda", "arch": "sm_89"},
    "nvidia-h100": {"kind": "cuda", "arch": "sm_90"},
    "nvidia-h200": {"kind": "cuda", "arch": "sm_90"},
    # The GPU of these boards; their CPUs go by the board's name alone.
    "jetson-orin-nano-gpu": _ORIN,
    "jetson-orin-nx-gpu": _ORIN,
    "jetson-agx-orin-gpu": _ORIN,
}
ALIASES: dict[str, str] = {
    "t4": "nvidia-t4", "a100": "nvidia-a100", "h100": "nvidia-h100", "h200": "nvidia-h200", "jetson-orin": "jetson-agx-orin-gpu",
}  # fmt: skip


@functools.cache
def local_arch() -> str | None:
    """Of this machine's first GPU; None without one that TVM can use."""
    if not tvm.runtime.enabled("cuda") or not tvm.cuda(0).exist:
        return None
    return _newest(str(tvm.cuda(0).compute_version))


def local_features() -> frozenset[str]:
    """The architectures whose code runs here: that of this GPU, and what is older, by the PTX that comes with it."""
    here = local_arch()
    return frozenset() if here is None else frozenset(arch for arch in PROCESSORS if _number(arch) <= _number(here))


def described(feature: str) -> str:
    """A feature that is missing, for people."""
    return f"{feature} (an NVIDIA GPU that TVM's CUDA runtime finds)" if feature in PROCESSORS else feature


def _newest(capability: str) -> str | None:
    """The newest that a GPU of this compute capability ("9.0") runs; None where it is older than all."""
    major, minor = map(int, capability.split("."))
    return max((arch for arch in PROCESSORS if _number(arch) <= 10 * major + minor), key=_number, default=None)


def _number(arch: str) -> int:
    return int(arch.removeprefix("sm_").rstrip("af"))
