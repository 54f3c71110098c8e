"""TargetSpec: all that the rest of the system has to know about the machine that is compiled for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from tvm.target import Target

from tvm_rsq.targets.cuda.gpus import described, local_features
from tvm_rsq.targets.host import host_arch, host_features
from tvm_rsq.targets.kernel_library import KernelLibrary
from tvm_rsq.targets.numerics import RequantizeForm


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetSpec:
    """One target. Made by `targets.parse.parse_target`.

    name       what the user called it, for reports
    tvm        the TVM target as a dict; `tvm_target()` is the only place that makes a Target of it
    arch       "x86_64" or "aarch64"
    triple     LLVM triple
    features   instruction sets that compiled code may use, in LLVM's names
    num_cores  threads to plan for
    form       how multiply-add is made exact here, see targets/numerics.py
    library    the kernels
    device     what they run on, by TVM's name; arch, triple and num_cores are those of the CPU that starts them
    """

    name: str
    tvm: Mapping[str, Any] = field(hash=False)
    arch: str
    triple: str
    features: frozenset[str]
    num_cores: int
    form: RequantizeForm
    library: KernelLibrary = field(hash=False, compare=False, repr=False)
    device: Literal["cpu", "cuda"] = "cpu"

    def tvm_target(self) -> Target:
        return Target(dict(self.tvm))

    @property
    def is_cross(self) -> bool:
        """True when the code cannot run on this machine's kind of CPU at all."""
        return self.arch != host_arch()


def host_supports(spec: TargetSpec) -> list[str]:
    """What `spec` needs and this machine lacks, sorted: instruction sets, or the whole architecture. Empty: it runs here."""
    if spec.is_cross:
        return [f"{spec.arch} CPU"]
    return [described(feature) for feature in sorted(spec.features - host_features() - local_features())]
