"""Element-wise kernels and reductions of a GPU: a thread makes one element, or a word of four, and neighbours make neighbours."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import tvm_ffi
from tvm import te, tirx
from tvm.ir import Expr, IRModule
from tvm.s_tir import Schedule
from tvm.s_tir.schedule import LoopRV
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T

from tvm_rsq.targets.cuda.code_lookup import as_bytes, as_words
from tvm_rsq.targets.generic.flat_kernel import Argument, element_of
from tvm_rsq.targets.generic.narrow import Narrow
from tvm_rsq.targets.generic.staging import flat
from tvm_rsq.targets.kernel import Kernel

_THREADS = 256  # of a block
_WORD = 4


class ThreadBuilder:
    """A `KernelBuilder`."""

    own_loops = False

    @staticmethod
    def flat(
        name: str, inputs: Sequence[Argument], parameters: Sequence[Argument], output: Argument, element: Callable[..., Expr], *,
        lanes: int = 32, narrow: Narrow,
    ) -> Kernel:  # fmt: skip
        """As flat_kernel: four neighbouring elements a thread; lanes and narrow are a CPU's."""
        del lanes, narrow
        size = math.prod(output.shape)
        width = _WORD if size >= _WORD else 1
        vectors = -(-size // width)
        with IRBuilder() as builder:
            with T.prim_func(s_tir=True):
                T.func_attr({"tirx.noalias": True, "tirx.is_scheduled": True, "global_symbol": "main"})
                buffers = [T.arg(a.name, T.buffer(a.shape, a.dtype)) for a in (*inputs, *parameters)]
                out = T.arg(output.name, T.buffer(output.shape, output.dtype))
                sources = [flat(buffer, size, a.dtype) for a, buffer in zip(inputs, buffers, strict=False)]
                target = flat(out, size, output.dtype)
                with (
                    T.thread_binding(-(-vectors // _THREADS), thread="blockIdx.x") as block,
                    T.thread_binding(_THREADS, thread="threadIdx.x") as thread,
                ):
                    item = T.bind(block * _THREADS + thread)
                    with T.If(item < vectors), T.Then():
                        # The last vector overlaps its neighbour; such an address is no multiple of a word.
                        whole = size % width == 0
                        start = T.bind(item * width if whole else tirx.min(item * width, size - width))
                        values = [_elements(x, start, width if whole else 1, width) for x in sources]
                        found = [element(*(each[i] for each in values), *buffers[len(inputs) :]) for i in range(width)]
                        _store(target, start, [element_of(value, output.dtype) for value in found], together=whole)
        return Kernel(name=name, prim_func=builder.get())

    @staticmethod
    def injective(name: str, inputs: Sequence[te.Tensor], output: te.Tensor) -> Kernel:
        """As injective_kernel."""
        sch = Schedule(IRModule({"main": te.create_prim_func([*inputs, output])}))
        _bind(sch, sch.get_loops(sch.get_sblock(output.op.name)))
        return _kernel(name, sch)

    @staticmethod
    def reduction(name: str, inputs: Sequence[te.Tensor], reduction: te.Tensor, output: te.Tensor) -> Kernel:
        """As reduction_kernel: a thread makes an output, with all that it sums."""
        sch = Schedule(IRModule({"main": te.create_prim_func([*inputs, output])}))
        block = sch.get_sblock(reduction.op.name)
        spatial = len(output.shape)
        if output.same_as(reduction):
            anchor = sch.cache_write(block, 0, "local")
        else:
            anchor = sch.get_sblock(output.op.name)
            sch.set_scope(block, 0, "local")
        thread = _bind(sch, sch.get_loops(anchor)[:spatial])
        sch.compute_at(block, thread, preserve_unit_loops=False)
        return _kernel(name, sch)


def _bind(sch: Schedule, loops: Sequence[LoopRV]) -> LoopRV:
    """The loop over a block's threads."""
    fused = sch.fuse(*loops) if loops else sch.add_unit_loop(sch.get_sblock("root"))
    block, thread = sch.split(fused, [None, min(_THREADS, max(1, int(sch.get(fused).extent)))])
    sch.bind(block, "blockIdx.x")
    sch.bind(thread, "threadIdx.x")
    return thread


def _kernel(name: str, sch: Schedule) -> Kernel:
    return Kernel(name=name, prim_func=sch.mod["main"].with_attr("tirx.is_scheduled", True))


def _elements(source: Expr, start: Expr, aligned: int, count: int) -> list[Expr]:
    """source[start ... start + count - 1], in one load where `start` is so aligned."""
    dtype = str(source.dtype)
    if aligned < _WORD or tvm_ffi.dtype(dtype).itemsize != 1:
        return [T.bind(source[start + i]) for i in range(count)]
    (word,) = as_words(source.vload([start], f"{dtype}x{_WORD}"), _WORD)
    word = T.bind(word)
    return [(word >> tirx.const(8 * i, "uint32")).astype("uint8").astype(dtype) for i in range(count)]


def _store(target: Expr, start: Expr, values: Sequence[Expr], *, together: bool) -> None:
    if len(values) < _WORD or not together or str(target.dtype) != "int8":
        for i, value in enumerate(values):
            T.buffer_store(target, value, [start + i])
        return
    four = [value.astype("uint8").astype("uint32") << tirx.const(8 * i, "uint32") for i, value in enumerate(values)]
    T.buffer_store(target, as_bytes([four[0] | four[1] | four[2] | four[3]]), [tirx.Ramp(start, 1, _WORD)])
