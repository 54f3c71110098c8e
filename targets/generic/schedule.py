"""The CPU schedule of everything that is not a convolution: fused outer loops in parallel, the innermost run vectorised.

`schedule_elementwise(prim_func)` is for functions of unknown origin (relax LegalizeOps + FuseTIR): it does what it recognises and leaves
the rest as it is. `schedule_injective` and `schedule_reduction` are its two building blocks, used directly by the kernels of this folder.
"""

from __future__ import annotations

import math

import tvm_ffi
from tvm import tirx
from tvm.ir import Call, IRModule, Op, TensorLoad
from tvm.s_tir import Schedule, ScheduleError
from tvm.s_tir.schedule import LoopRV, SBlockRV

from tvm_rsq.targets.generic.contiguous_run import contiguous_axes, contiguous_read_axis

_SCHEDULED = "tirx.is_scheduled"
_IF_THEN_ELSE = Op.get("prim.if_then_else")
PARALLEL_WORK = 1 << 15  # below this many element operations, waking other threads costs more than it saves
ENOUGH_ROWS = 64  # so many outer iterations divide evenly enough among threads; with fewer, the run is divided too
_VECTOR_BYTES = 64  # one AVX-512 register of the output; narrower machines get several registers a step
_MIN_LANES = 8
_REPEATABLE_LOADS = 2  # a stage with several consumers is inlined up to so many loads; more could grow without bound in a chain of diamonds
_MIN_REDUCTION_BYTES = 16  # a reduction repeats its loop overhead for every vector: narrower ones are slower than LLVM's own
_TRANSPOSE_TILE = 16
_UNROLLED_AXIS = 8  # an innermost axis up to this size is unrolled, so that LLVM vectorises over the next one


def schedule_elementwise(prim_func: tirx.PrimFunc) -> tirx.PrimFunc:
    """`prim_func` with a sane CPU schedule; as it is where its structure is not recognised, is dynamic, or is scheduled already.

    Element-wise producers that are cheaper to repeat than to store are inlined; element-wise blocks are vectorised; reductions keep the
    vector in the innermost spatial axis where memory allows it. No sum is reordered, but LLVM may contract other products and sums than
    before. A schedule changes no result, so a function that the scheduler refuses comes back as it was.
    """
    if prim_func.attrs is not None and _SCHEDULED in prim_func.attrs:
        return prim_func
    try:
        return _scheduled(prim_func)
    except ScheduleError:
        return prim_func


def _scheduled(prim_func: tirx.PrimFunc) -> tirx.PrimFunc:
    sch = Schedule(IRModule({"main": prim_func}))
    blocks = sch.get_child_blocks(sch.get_sblock("root"))
    if not all(_is_recognised(sch, block) for block in blocks):
        return prim_func
    for block in _inline_producers(sch, blocks):
        if _is_reduction(sch, block):
            schedule_reduction(sch, block)
        else:
            schedule_injective(sch, block)
    return sch.mod["main"].with_attr(_SCHEDULED, True)


def schedule_injective(sch: Schedule, block: SBlockRV) -> None:
    """Schedule one block without reduction whose loops are its spatial axes, in order."""
    loops = sch.get_loops(block)
    extents = _extents(sch, loops)
    work = math.prod(extents)
    run = _run_of(sch, block)
    if run == 0:
        _schedule_strided(sch, block)
        return
    inner = sch.fuse(*loops[-run:])
    length = math.prod(extents[-run:])
    rows = math.prod(extents[: len(extents) - run])
    lanes = lanes_of(length, _out_itemsize(sch, block))
    outer = loops[: len(loops) - run]
    if lanes:
        chunks, vector = sch.split(inner, [None, lanes])
        sch.vectorize(vector)
        _parallelise(sch, [*outer, chunks] if rows < ENOUGH_ROWS else outer, work)
    elif outer:  # an odd length: LLVM vectorises the serial loop and its tail
        _parallelise(sch, outer, work)
    elif length >= PARALLEL_WORK:
        chunks, _rest = sch.split(inner, [ENOUGH_ROWS, None])
        sch.parallel(chunks)


def _schedule_strided(sch: Schedule, block: SBlockRV) -> None:
    """A block that cannot be vectorised along its last axis, such as a transposition or a table lookup."""
    *outer, last = sch.get_loops(block)
    extents = _extents(sch, [*outer, last])
    work = math.prod(extents)
    if extents[-1] <= _UNROLLED_AXIS:
        if outer:
            sch.unroll(last)
        if len(outer) > 1:
            outer = outer[:-1]  # fused with the others, the axis that LLVM vectorises over would be a chain of divisions
    else:
        source = contiguous_read_axis(sch.get(block), [iv.var for iv in sch.get(block).iter_vars])
        if source is not None and source < len(outer):
            # The cache line that one element is read from holds its neighbours along `source`: read them before it is gone.
            factor = max(f for f in range(1, _TRANSPOSE_TILE + 1) if extents[source] % f == 0)
            outer[source], tile = sch.split(outer[source], [None, factor])
            sch.reorder(*outer, tile, last)
    _parallelise(sch, outer, work)


def schedule_reduction(sch: Schedule, block: SBlockRV, output: SBlockRV | None = None) -> None:
    """Schedule one reduction block and, if given, the block that consumes it element by element (same axes), at the same loop.

    Where the last axis can be vectorised, the order becomes  spatial (parallel) | reduction | last axis:  a vector of accumulators in
    registers if a good width divides the axis, and otherwise a row of them, in a loop that LLVM vectorises together with its tail.
    """
    anchor = block if output is None else output
    work = math.prod(_extents(sch, sch.get_loops(block)))
    spatial = [iv for iv in sch.get(block).iter_vars if iv.iter_type == tirx.IterVar.DataPar]
    if not spatial:
        return
    length = int(spatial[-1].dom.extent)
    along = _run_of(sch, block) >= 1 and _run_of(sch, anchor) >= 1 and length >= _MIN_LANES
    lanes = lanes_of(length, _out_itemsize(sch, anchor)) if along else 0
    if lanes * _out_itemsize(sch, anchor) < _MIN_REDUCTION_BYTES:
        lanes = 0
    if output is None and along:
        # A private accumulator: the compiler cannot keep a sum in registers that lives in the caller's buffer.
        anchor = sch.cache_write(block, 0, "global")
    *outer, last = sch.get_loops(anchor)[: len(spatial)]
    if lanes:
        last, vector = sch.split(last, [None, lanes])
        sch.vectorize(vector)
        outer.append(last)
    elif not outer:
        outer = [sch.add_unit_loop(last) if along else last]
    elif not along and math.prod(_extents(sch, outer)) < ENOUGH_ROWS:
        outer.append(last)
    fused = sch.fuse(*outer)
    if not anchor.same_as(block):
        sch.compute_at(block, fused, preserve_unit_loops=False)
    if work >= PARALLEL_WORK:
        sch.parallel(fused)
    if along:
        _reduce_along_last_axis(sch, block, vectorized=lanes > 0)


def _reduce_along_last_axis(sch: Schedule, block: SBlockRV, *, vectorized: bool) -> None:
    """Below the one outer loop of `block` lie the last spatial axis and the reductions: make the former innermost."""
    last, *reduced = sch.get_loops(block)[1:]
    if reduced:
        sch.reorder(*reduced, last)
    if vectorized:
        sch.vectorize(last)  # before the block is torn in two: what remains then is no reduction block to the scheduler
    if reduced:
        init = sch.decompose_reduction(block, reduced[0])
        last = sch.get_loops(init)[-1]
        if vectorized and sch.get(last).kind == tirx.ForKind.SERIAL:
            sch.vectorize(last)


def lanes_of(length: int, itemsize: int) -> int:
    """The widest vector (in elements) that divides `length` and fills at most one 64-byte register of `itemsize` elements; 0: none does."""
    lanes = _VECTOR_BYTES // itemsize
    while lanes >= _MIN_LANES:
        if length % lanes == 0:
            return lanes
        lanes //= 2
    return 0


def _parallelise(sch: Schedule, loops: list[LoopRV], work: int) -> None:
    if not loops:
        return
    if work >= PARALLEL_WORK:
        sch.parallel(sch.fuse(*loops))


def _extents(sch: Schedule, loops: list[LoopRV]) -> list[int]:
    return [int(sch.get(loop).extent) for loop in loops]


def _run_of(sch: Schedule, block: SBlockRV) -> int:
    stmt = sch.get(block)
    spatial = [iv for iv in stmt.iter_vars if iv.iter_type == tirx.IterVar.DataPar]
    return contiguous_axes(stmt, [iv.var for iv in spatial], [int(iv.dom.extent) for iv in spatial])


def _is_reduction(sch: Schedule, block: SBlockRV) -> bool:
    return any(iv.iter_type == tirx.IterVar.CommReduce for iv in sch.get(block).iter_vars)


def _out_itemsize(sch: Schedule, block: SBlockRV) -> int:
    return max(1, tvm_ffi.dtype(sch.get(block).writes[0].source.dtype).itemsize)


def _is_recognised(sch: Schedule, block: SBlockRV) -> bool:
    """A flat block of one store, static, whose loops are exactly its axes in order (what `te.create_prim_func` makes)."""
    stmt = sch.get(block)
    if not isinstance(stmt.body, tirx.BufferStore) or len(stmt.writes) != 1 or sch.get_child_blocks(block):
        return False
    loops = [sch.get(loop) for loop in sch.get_loops(block)]
    if len(loops) != len(stmt.iter_vars) or not loops:
        return False
    kinds = [iv.iter_type for iv in stmt.iter_vars]
    spatial = kinds.count(tirx.IterVar.DataPar)
    in_order = kinds == [tirx.IterVar.DataPar] * spatial + [tirx.IterVar.CommReduce] * (len(kinds) - spatial)
    shapes = [region.source.shape for region in [*stmt.reads, *stmt.writes]]
    static = all(isinstance(extent, tirx.IntImm) for extent in [loop.extent for loop in loops] + [e for shape in shapes for e in shape])
    return spatial > 0 and in_order and static and all(loop.kind == tirx.ForKind.SERIAL for loop in loops)


def _inline_producers(sch: Schedule, blocks: list[SBlockRV]) -> list[SBlockRV]:
    """Inline the element-wise blocks that are cheaper to repeat than to store; the blocks that remain, in order."""
    remaining = []
    for block in blocks:
        if _is_worth_inlining(sch, block):
            try:
                sch.compute_inline(block)
                continue
            except ScheduleError:  # not an inlinable structure: it stays a stage of its own
                pass
        remaining.append(block)
    return remaining


def _is_worth_inlining(sch: Schedule, block: SBlockRV) -> bool:
    consumers = sch.get_consumers(block)
    if _is_reduction(sch, block) or not consumers:
        return False
    if any(_is_reduction(sch, consumer) for consumer in consumers) and _run_of(sch, block) == 0:
        return False  # such as padding of the last axis: inlined, its conditions would keep the reduction from being vectorised
    loads, calls = _loads_and_calls(sch, block)
    if calls:  # exp, tanh, ... must not be repeated: one consumer, which evaluates each element once
        return len(consumers) == 1 and _iterations(sch, consumers[0]) <= _iterations(sch, block)
    return len(consumers) == 1 or loads <= _REPEATABLE_LOADS


def _iterations(sch: Schedule, block: SBlockRV) -> int:
    return math.prod(_extents(sch, sch.get_loops(block)))


def _loads_and_calls(sch: Schedule, block: SBlockRV) -> tuple[int, int]:
    """How many loads and calls of math functions the block's body holds."""
    loads, calls = [], []

    def visit(node: object) -> None:
        if isinstance(node, TensorLoad):
            loads.append(node)
        elif isinstance(node, Call) and not node.op.same_as(_IF_THEN_ELSE):
            calls.append(node)

    tvm_ffi.structural_walk(sch.get(block).body, visit)
    return len(loads), len(calls)
