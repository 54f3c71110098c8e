"""Case: one kernel whose instructions are counted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tvm_rsq.targets.kernel import Kernel
from tvm_rsq.targets.kernel_library import KernelLibrary


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One kernel, and what its instructions are told per.

    work  multiply-accumulates of one call, or output values of a kernel that has none (`unit` says which)
    """

    name: str
    make: Callable[[KernelLibrary], Kernel]
    work: int
    unit: str = "MAC"
