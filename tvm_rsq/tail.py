"""Which tensors are a network's last features, and how far their values can reach at most.

    conv -> relu6 -> ... -> [ conv -> relu6 -> mean ] -> matmul -> output          the bracket is the tail
                              0..6     0..6    0..6

A tensor belongs to the tail if exactly one layer lies between it and an output (on the path with the most layers).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from tvm_rsq.executor import Executor, Step

Bounds = tuple[float, float]
_EVERYTHING: Bounds = (-math.inf, math.inf)
_BOUNDED: dict[str, Bounds] = {"relax.sigmoid": (0.0, 1.0), "relax.nn.softmax": (0.0, 1.0), "relax.tanh": (-1.0, 1.0)}
# Their values are values, or means of values, of what they read.
_WITHIN_INPUT = (
    "relax.nn.max_pool2d", "relax.nn.avg_pool2d", "relax.nn.adaptive_avg_pool2d", "relax.mean", "relax.max", "relax.min", "relax.reshape",
    "relax.flatten", "relax.permute_dims", "relax.squeeze", "relax.expand_dims", "relax.split", "getitem", "alias", "relax.strided_slice",
    "relax.concat",
)  # fmt: skip


def tail_bounds(executor: Executor) -> dict[str, Bounds]:
    """Tensors of the tail -> the bounds that their operators put on them, (-inf, inf) where there are none."""
    ahead = _layers_ahead(executor)
    bounds: dict[str, Bounds] = {}
    for step in executor.steps:
        bounds[step.name] = _bounds(step, [bounds.get(name, _EVERYTHING) for name in step.inputs])
    return {step.name: bounds[step.name] for step in executor.steps if ahead.get(step.name) == 1}


def _layers_ahead(executor: Executor) -> dict[str, int]:
    """Variable -> the largest number of layers on a path from it to an output; nothing for what no output depends on."""
    layers = {layer.binding for layer in executor.layers}
    ahead = {name: 0 for name in executor.outputs}
    for step in reversed(executor.steps):
        if step.name in ahead:
            count = ahead[step.name] + (step.name in layers)
            for name in step.inputs:
                ahead[name] = max(ahead.get(name, 0), count)
    return ahead


def _bounds(step: Step, read: Sequence[Bounds]) -> Bounds:
    if step.op in _BOUNDED:
        return _BOUNDED[step.op]
    if step.op == "relax.clip":
        low, high = (float(argument.value) for argument in step.expr.args[1:3])
        return low, high
    if step.op == "relax.nn.relu":
        return 0.0, max(read[0][1], 0.0)
    if step.op in _WITHIN_INPUT and read:
        return min(low for low, _ in read), max(high for _, high in read)
    return _EVERYTHING
