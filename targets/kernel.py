"""Kernel: one compiled-to-be operator, and the library of them that a target offers.

A kernel is destination-passing: `prim_func(*inputs, output)`. Which inputs, and in which order, is fixed per operator by the
`KernelLibrary` method that makes it, so the lowering pass needs to know no target.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from tvm.tirx import PrimFunc

from tvm_rsq.targets.code_rows import CodeRows


def _as_is(weight: np.ndarray) -> np.ndarray:
    return weight


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """A scheduled TIR function and how its weight is laid out.

    name         what it is and how it was scheduled, for profiles: "conv2d_vnni512_7x4"
    prim_func    scheduled, with static shapes
    pack_weight  plain OHWI weight -> the array the kernel takes (any shape)
    codes        not None: pack_weight gives int8 (groups, codes.vectors, n), of which the kernel takes the codes, `codes.pack` of them, and
                 behind them the table of the codebook
    expanded     the weight is stored as codes of so many bits, and what the kernel takes is made of them when the library is loaded; 0: not
    spread       (A, R, P, D): of the packed weight, flat. Values that have their places in A and in P in common, a slot, are all of one
                 output channel, or fill up. None: the layout has no such form
    """

    name: str
    prim_func: PrimFunc
    pack_weight: Callable[[np.ndarray], np.ndarray] = field(default=_as_is)
    codes: CodeRows | None = None
    expanded: int = 0
    spread: tuple[int, int, int, int] | None = None
