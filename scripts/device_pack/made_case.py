"""MadeCase: a kernel before it is compiled, with the values for its arguments.

A new kind of kernel joins the bundle by a function that yields these, see cases.py.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from tvm.tirx import PrimFunc


@dataclass(frozen=True, slots=True)
class Values:
    """Of one argument: a period of them, which is repeated until `shape` is full. See scripts/device_run/case.py, Array."""

    period: np.ndarray
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class MadeCase:
    """prim_func  one kernel; its parameters are buffers, the last is written
    arguments  in the order of its parameters: the last holds what should be written

    The rest as in scripts/device_run/case.py, Case.
    """

    name: str
    kernel: str
    prim_func: PrimFunc
    arguments: tuple[Values, ...]
    layer: str | None = None
    bits: int | None = None
    timed: bool = True

    @property
    def function(self) -> str:
        """A name for C."""
        return re.sub(r"\W+", "_", self.name)
