"""TimedTarget: a target whose kernels can be timed, which is what a plan with levers is made for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tvm_rsq.targets.carrier import Carrier
from tvm_rsq.targets.levers import Levers
from tvm_rsq.targets.workload import Conv2DWorkload

# Cost of one call of each kernel, in what the target measures. Those of one list are measured in turns, so that they can be compared with
# the first.
LayerCost = Callable[[Sequence[Conv2DWorkload]], Sequence[float]]


def _nothing(_workloads: Sequence[Conv2DWorkload]) -> None:
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class TimedTarget:
    """The levers of a target, and how long a layer's kernel takes there, or what else is taken for that.

    carrier  of the activations in its kernels
    measure  what costs are, of tuning.task.MEASURES; times are microseconds
    prepare  told of the workloads that `cost` is to be asked for next: kernels can be built side by side
    """

    name: str
    levers: Levers
    carrier: Carrier = "uint8"
    cost: LayerCost
    measure: str = "time"
    prepare: Callable[[Sequence[Conv2DWorkload]], None] = _nothing
