"""Expansion of codes: layers, which are timed, and odd sizes, which are not."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from scripts.device_pack.layers import LAYERS
from scripts.device_pack.made_case import MadeCase, Values
from tvm_rsq.targets.code_rows import CODE_BITS, CodeRows
from tvm_rsq.targets.cuda.code_lookup import PermuteLookup
from tvm_rsq.targets.cuda.expand_codes import make_expand
from tvm_rsq.targets.cuda.expand_schedule import SCHEDULES, ExpandSchedule
from tvm_rsq.targets.workload import ExpandWorkload

# Nothing but a rest; a rest behind whole stores; less and more than a group; more than a block.
_SIZES = ((1,), (7,), (129,), (5, 27), (4096,), (8193,), (3, 4001), (70001,))
_PERIOD = 1021  # groups, a prime: a group taken from or written to a wrong place differs


def expand_cases(widths: Sequence[int] = ()) -> Iterator[MadeCase]:
    """widths  bytes that a thread takes of a row, of further schedules than the one that libraries are made with"""
    for bits in CODE_BITS:
        for shape in _SIZES:
            for dtype in ("int8", "int16"):
                size = "x".join(map(str, shape))
                yield _case(f"expand{bits} {dtype} {size}", ExpandWorkload(bits=bits, shape=shape, dtype=dtype), SCHEDULES[bits])
    for layer, shape in LAYERS.items():
        for bits in CODE_BITS:
            w = ExpandWorkload(bits=bits, shape=shape)
            yield _case(f"expand{bits} {layer}", w, SCHEDULES[bits], layer)
            for width in widths:
                yield _case(f"expand{bits} {layer} width {width}", w, ExpandSchedule(width), layer)


def _case(name: str, w: ExpandWorkload, schedule: ExpandSchedule, layer: str | None = None) -> MadeCase:
    codes, kernel = CodeRows(w.bits), make_expand(w, PermuteLookup(), schedule)
    random, size = np.random.default_rng(w.bits), math.prod(w.shape)
    group = codes.vectors * schedule.lanes
    each = random.integers(0, 2**w.bits, min(size, _PERIOD * group)).astype(np.uint8)
    book = random.permutation(np.arange(-128, 128))[: 2**w.bits].astype(np.int8)
    packed = -(-size // group) * codes.rows * schedule.lanes
    arguments = (
        Values(kernel.pack_weight(each), (packed,)),
        Values(codes.table(book), (codes.entries,)),
        Values(book[each].astype(w.dtype), w.shape),
    )
    return MadeCase(
        name=name, kernel=f"{kernel.name} width {schedule.width}", prim_func=kernel.prim_func, arguments=arguments,
        layer=layer, bits=w.bits, timed=layer is not None,
    )  # fmt: skip
