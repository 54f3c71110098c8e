"""Element-wise kernels of operands of one shape, as one run of memory.

Seen as a tensor, an index is a chain of divisions and remainders of the flat position, which not every shape lets the compiler fold back:
what it cannot fold becomes a gather. A flat view has no such chain. What does not fill the last vector overlaps its neighbour.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tvm import tirx
from tvm.ir import Expr
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T

from tvm_rsq.targets.carried import stored
from tvm_rsq.targets.generic.narrow import CLIP, Narrow
from tvm_rsq.targets.generic.schedule import ENOUGH_ROWS, PARALLEL_WORK
from tvm_rsq.targets.generic.staging import flat
from tvm_rsq.targets.kernel import Kernel


@dataclass(frozen=True, slots=True)
class Argument:
    """A parameter of a kernel."""

    name: str
    shape: tuple[int, ...]
    dtype: str


def flat_kernel(
    name: str,
    inputs: Sequence[Argument],
    parameters: Sequence[Argument],
    output: Argument,
    element: Callable[..., Expr],
    *,
    lanes: int = 32,
    narrow: Narrow = CLIP,
) -> Kernel:
    """prim_func(*inputs, *parameters, output):   output[i] = element(*(x[i] for x in inputs), *parameters), a vector of `lanes` at a time.

    The inputs have as many elements as the output; parameters are handed over as buffers. Elements: as the values of `store_vector`.
    """
    size = math.prod(output.shape)

    def vector_at(start: Expr, width: int) -> None:
        def value(lane: Expr | int) -> Expr:
            return element(*(x[start + lane] for x in sources), *buffers[len(inputs) :])

        store_vector(target, start, width, value, narrow)

    with IRBuilder() as builder:
        with T.prim_func(s_tir=True):
            T.func_attr({"tirx.noalias": True, "tirx.is_scheduled": True, "global_symbol": "main"})
            buffers = [T.arg(a.name, T.buffer(a.shape, a.dtype)) for a in (*inputs, *parameters)]
            out = T.arg(output.name, T.buffer(output.shape, output.dtype))
            sources = [flat(buffer, size, a.dtype) for a, buffer in zip(inputs, buffers, strict=False)]
            target = flat(out, size, output.dtype)
            flat_loop(size, lanes if size >= lanes else 1, vector_at)
    return Kernel(name=name, prim_func=builder.get())


def store_vector(target: Expr, start: Expr, width: int, value: Callable[[Expr | int], Expr], narrow: Narrow = CLIP) -> None:
    """Emit: target[start + i] = value(i) for i < width.

    The values are as `element_of` takes them; int32 ones become bytes by `narrow`.
    """
    dtype = str(target.dtype)
    if width == 1:
        T.buffer_store(target, element_of(value(0), dtype), [start])
        return
    if dtype not in ("uint8", "int8") or str(value(0).ty) != "int32":
        with T.vectorized(width) as lane:
            T.buffer_store(target, element_of(value(lane), dtype), [start + lane])
        return
    at = 0
    for lanes, count in narrow.groups(width, 1):
        wide = T.alloc_buffer((count * lanes,), "int32")
        for i in range(count):
            with T.vectorized(lanes) as lane:
                T.buffer_store(wide, value(at + i * lanes + lane), [i * lanes + lane])
        vectors = [wide.vload([i * lanes], f"int32x{lanes}") for i in range(count)]
        T.buffer_store(target, stored(narrow.apply(vectors, lanes, 0, 255), dtype), [tirx.Ramp(start + at, 1, count * lanes)])
        at += count * lanes


def element_of(value: Expr, dtype: str) -> Expr:
    """A value as a buffer of `dtype` holds it.   value: of that dtype; or, where it is a carrier, q as an int32"""
    if str(value.ty) == "int32" and dtype in ("uint8", "int8"):
        return stored(value.astype("uint8"), dtype)
    return value.astype(dtype)


def flat_loop(size: int, width: int, emit: Callable[[Expr, int], None]) -> None:
    """Emit: emit(start, width) for vectors that cover `size` >= width elements, in parallel where there are many."""
    vectors = size // width
    if size < PARALLEL_WORK:
        with T.serial(vectors) as v:
            emit(v * width, width)
    else:
        a_piece = -(-vectors // ENOUGH_ROWS)
        with T.parallel(-(-vectors // a_piece)) as piece:
            with T.serial(tirx.min(a_piece, vectors - piece * a_piece)) as v:
                emit((piece * a_piece + v) * width, width)
    if size % width:
        emit(tirx.const(size - width, "int32"), width)
