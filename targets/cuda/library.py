"""The kernels of an NVIDIA GPU."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar

from tvm.tirx import PrimFunc

from tvm_rsq.targets.carrier import Carrier
from tvm_rsq.targets.choice import Choice
from tvm_rsq.targets.cuda.code_lookup import PermuteLookup
from tvm_rsq.targets.cuda.concat import make_concat
from tvm_rsq.targets.cuda.conv2d import LOOKED_UP, conv2d
from tvm_rsq.targets.cuda.depthwise import depthwise, depthwise_space
from tvm_rsq.targets.cuda.expand_codes import make_expand
from tvm_rsq.targets.cuda.expand_slots import make_expand_slots
from tvm_rsq.targets.cuda.float_conv import float_conv, float_tile
from tvm_rsq.targets.cuda.gemm_space import gemm_space, reads_from_memory
from tvm_rsq.targets.cuda.gemm_tile import CHANNELS, GemmTile
from tvm_rsq.targets.cuda.lane_epilogue import FORM
from tvm_rsq.targets.cuda.leftovers import schedule_on_threads
from tvm_rsq.targets.cuda.thread_kernels import ThreadBuilder
from tvm_rsq.targets.generic.depthwise import DepthwiseTile
from tvm_rsq.targets.generic.elementwise_library import ElementwiseKernels
from tvm_rsq.targets.generic.kernel_builder import KernelBuilder
from tvm_rsq.targets.generic.narrow import CLIP, Narrow
from tvm_rsq.targets.kernel import Kernel
from tvm_rsq.targets.levers import Levers
from tvm_rsq.targets.numerics import RequantizeForm
from tvm_rsq.targets.workload import Conv2DWorkload, ExpandWorkload
from tvm_rsq.targets.workloads_movement import ConcatWorkload

_MOST_BLOCKS = 65535  # of a grid, in y and in z


@dataclass(frozen=True, slots=True)
class CudaLibrary(ElementwiseKernels):
    """A `KernelLibrary`. Activations are signed bytes, which is what tensor cores multiply.

    processors  multiprocessors, among which untuned tiles share the work
    """

    build: ClassVar[KernelBuilder] = ThreadBuilder()
    graph: ClassVar[bool] = True
    processors: int
    form: RequantizeForm = FORM
    narrow: Narrow = CLIP
    levers: Levers = Levers()
    carrier: Carrier = "int8"

    def conv2d(self, w: Conv2DWorkload, choice: Choice | None = None) -> Kernel:
        if w.in_dtype not in (self.carrier, "float32"):
            raise ValueError(f"in_dtype is {w.in_dtype}, expected {self.carrier} or float32: what this library's kernels multiply")
        _check_size(w)
        choice = choice or self.conv2d_space(w)[0]
        if w.code_bits and getattr(choice, "codes", "load") == "load":
            return replace(self.conv2d(replace(w, code_bits=0), choice), expanded=w.code_bits)
        multiplied = w.in_dtype == "int8" and not w.is_depthwise
        if multiplied and isinstance(choice, GemmTile):
            return conv2d(w, choice)
        if not multiplied and isinstance(choice, DepthwiseTile):
            return float_conv(w, choice) if w.in_dtype == "float32" else depthwise(w, choice)
        kind = GemmTile if multiplied else DepthwiseTile
        raise ValueError(f"choice {choice} does not fit {w}, expected a {kind.__name__}; take one of conv2d_space")

    def conv2d_space(self, w: Conv2DWorkload) -> tuple[Choice, ...]:
        if w.in_dtype == "float32":
            return (float_tile(w),)
        if w.is_depthwise:
            return depthwise_space(w)
        plain = gemm_space(w, self.processors)
        if w.code_bits != LOOKED_UP:
            return plain
        coded = tuple(replace(tile, codes="kernel") for tile in plain)
        return (*coded, *plain) if reads_from_memory(w) else (*plain, *coded)

    def expand(self, w: ExpandWorkload) -> Kernel:
        return make_expand_slots(w) if w.books > 1 or w.dtype == "float32" else make_expand(w, PermuteLookup())

    def schedule(self, prim_func: PrimFunc) -> PrimFunc:
        return schedule_on_threads(prim_func)

    def concat(self, w: ConcatWorkload) -> Kernel:
        return make_concat(w)


def _check_size(w: Conv2DWorkload) -> None:
    """ValueError: more than indices of 32 bits count, or than a grid of blocks holds."""
    weights = w.out_channels * math.prod(w.kernel) * w.in_channels // w.groups
    largest = max(math.prod(w.out_shape), w.batch * w.height * w.width * w.in_channels, weights)
    if largest >= 1 << 31 or w.groups > _MOST_BLOCKS or w.out_channels // w.groups > CHANNELS * _MOST_BLOCKS:
        raise ValueError(f"{w} is larger than a kernel counts, expected tensors of less than 2^31 values; make the batch smaller")
