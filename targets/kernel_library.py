"""KernelLibrary: the kernels that a target offers, and which library fits a set of instruction sets."""

from __future__ import annotations

from typing import Protocol

from tvm_rsq.targets.generic.library import GenericLibrary
from tvm_rsq.targets.kernel import Kernel
from tvm_rsq.targets.numerics import RequantizeForm
from tvm_rsq.targets.workload import Conv2DWorkload
from tvm_rsq.targets.x86_64.library import x86_library


class KernelLibrary(Protocol):
    """Makes kernels. The order of a kernel's arguments is part of this protocol; the lowering relies on it and on nothing else."""

    form: RequantizeForm

    def conv2d(self, w: Conv2DWorkload) -> Kernel:
        """Convolution, depthwise and grouped convolution, and dense.

        uint8:    (data, packed_weight, bias int32 (OC,), multiplier float32 (OC,) if per_channel else (1,),
                   [residual uint8 of the output's shape, residual_affine float32 (2,),] output)
        float32:  (data, packed_weight, bias float32 (OC,), [residual float32,] output)
        """
        ...


def kernel_library(arch: str, features: frozenset[str], form: RequantizeForm) -> KernelLibrary:
    """The best library for a CPU of `arch` ("x86_64", "aarch64") with these LLVM features."""
    if arch == "x86_64":
        return x86_library(features, form)
    return GenericLibrary(form, vector_bytes=16, registers=32)
