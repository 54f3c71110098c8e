"""How the loops of element-wise kernels and reductions are made: here for a CPU; a GPU has a builder of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from tvm import te
from tvm.ir import Expr

from tvm_rsq.targets.generic.flat_kernel import Argument, flat_kernel
from tvm_rsq.targets.generic.narrow import Narrow
from tvm_rsq.targets.generic.te_kernel import injective_kernel, reduction_kernel
from tvm_rsq.targets.kernel import Kernel


class KernelBuilder(Protocol):
    """own_loops  whether kernels that were written for a CPU as loops are to be preferred to what this makes of their definition"""

    own_loops: bool

    def flat(
        self, name: str, inputs: Sequence[Argument], parameters: Sequence[Argument], output: Argument, element: Callable[..., Expr], *,
        lanes: int = 32, narrow: Narrow,
    ) -> Kernel:  # fmt: skip
        """See flat_kernel."""
        ...

    def injective(self, name: str, inputs: Sequence[te.Tensor], output: te.Tensor) -> Kernel:
        """See injective_kernel."""
        ...

    def reduction(self, name: str, inputs: Sequence[te.Tensor], reduction: te.Tensor, output: te.Tensor) -> Kernel:
        """See reduction_kernel."""
        ...


class CpuBuilder:
    """Vectors, and threads over the outer loops."""

    own_loops = True
    flat = staticmethod(flat_kernel)
    injective = staticmethod(injective_kernel)
    reduction = staticmethod(reduction_kernel)


CPU: KernelBuilder = CpuBuilder()
