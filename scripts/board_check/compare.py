"""What a network computed in two places, held against each other, bit for bit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tvm_rsq.compiled_module import CompiledModule
from tvm_rsq.plan import QuantPlan
from tvm_rsq.remote.check_answer import check_answer
from tvm_rsq.remote.device_builds import outputs_of
from tvm_rsq.targets.carried import level_array


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Computed:
    """Of one input.   outputs: as they are; stored: tensor name -> uint8 levels, in the plan's order, where they were exposed"""

    outputs: tuple[np.ndarray, ...]
    stored: Mapping[str, np.ndarray]

    @classmethod
    def of(cls, found: Sequence[np.ndarray], plan: QuantPlan, *, exposed: bool) -> Computed:
        """found: what the library answered, with every stored tensor behind the outputs where they are exposed"""
        count = len(found) - (len(plan.tensors) if exposed else 0)
        names = plan.tensors if exposed else ()
        return cls(
            outputs=tuple(found[:count]),
            stored={name: level_array(values) for name, values in zip(names, found[count:], strict=True)},
        )

    def saturated(self, plan: QuantPlan) -> float:
        """The fraction of levels at the top of their range."""
        at_top = sum(int((levels == 2 ** plan.tensors[name].bits - 1).sum()) for name, levels in self.stored.items())
        return at_top / max(1, self.levels)

    @property
    def levels(self) -> int:
        return sum(levels.size for levels in self.stored.values())


def here(module: CompiledModule, x: Sequence[np.ndarray], *, exposed: bool) -> Computed:
    return Computed.of(outputs_of(module)(*x), module.plan, exposed=exposed)


def difference(found: Computed, expected: Computed) -> str | None:
    """What differs first, a stored tensor by its name and the outputs last; None where every bit is equal."""
    for name, levels in expected.stored.items():
        other = found.stored[name].ravel()
        at = np.flatnonzero(other != levels.ravel())
        if at.size:
            return f"{name}: {at.size} of {levels.size} levels differ, the first is {other[at[0]]} instead of {levels.ravel()[at[0]]}"
    wrong = check_answer(found.outputs, expected.outputs, exact=True).wrong
    return None if wrong is None else f"output: {wrong}"
