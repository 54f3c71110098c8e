"""One run of a network that stops at its layers, from each of which the rest is run again with other outputs of that layer.

    x -> conv1 -> relu -> conv2 -> add -> y        behind conv1: relu, conv2, add;  behind conv2: add
     \\_________ conv3 ____________/                beside both: conv3

What is beside a layer is computed once for all of its trials, also where it comes later in the order of steps. A value is dropped as soon
as no step and no layer to come reads it, so that memory is that of one run.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F

from tvm_rsq.executor import Executor, LayerStep, Step

# What they return is memory of its own, which the only one that reads it may overwrite.
_FRESH = ("relax.nn.conv2d", "relax.matmul", "relax.add", "relax.nn.relu", "relax.clip")


class SharedPrefix:
    """The outputs of a network under changes of one layer at a time, for one batch of inputs. Without gradients.

    layers     those that will be reached, in this order, which is that of execution
    reference  the network's outputs without a change
    """

    def __init__(self, executor: Executor, inputs: Sequence[torch.Tensor], layers: Sequence[LayerStep]) -> None:
        self._executor = executor
        self._steps = {step.name: step for step in executor.steps}
        self._outputs = executor.outputs_by_name(inputs)
        self.reference = executor.collect(self._outputs)
        self._values: dict[str, Any] = executor.named(inputs)
        self._behind = {layer.name: self._dependents(layer) for layer in layers}
        self._beside = {layer.name: self._read_from_outside(layer) for layer in layers}
        self._done: set[str] = set()
        self._readers = Counter(name for step in executor.steps for name in step.inputs)
        for names in self._beside.values():
            self._readers.update(names)
        once = {name for name, count in Counter(name for step in executor.steps for name in step.inputs).items() if count == 1}
        self._own = {step.name for step in executor.steps if step.op in _FRESH and step.name in once} - set(executor.outputs)

    @property
    def kept(self) -> set[str]:
        """The variables whose values take memory now, the outputs' reference left out."""
        return set(self._values)

    def reach(self, layer: LayerStep) -> torch.Tensor:
        """Run on to the layer; what it reads is returned, and must not be overwritten."""
        needed = set(self._beside[layer.name])
        missing: list[Step] = []
        for step in reversed(self._executor.steps):
            if step.name in needed and step.name not in self._done:
                missing.append(step)
                needed.update(step.inputs)
        for step in reversed(missing):
            value = step.evaluate([self._value(name) for name in step.inputs])
            self._done.add(step.name)
            if self._readers[step.name]:
                self._values[step.name] = value
            self._release(step.inputs)
        return self._value(layer.input)

    def rest(self, layer: LayerStep, value: torch.Tensor, weight: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The network's outputs when the layer, the one reached last, reads `value` and has `weight`."""
        values: dict[str, Any] = {layer.binding: self._steps[layer.binding].evaluate([value, weight])}
        left = Counter(name for step in self._behind[layer.name] for name in step.inputs)
        for step in self._behind[layer.name]:
            read = [values[name] if name in values else self._value(name) for name in step.inputs]
            values[step.name] = self._evaluate(step, read, values)
            del read
            for name in step.inputs:
                left[name] -= 1
                if not left[name] and name not in self._outputs:
                    values.pop(name, None)
        return self._executor.collect({**self._outputs, **values})

    def leave(self, layer: LayerStep) -> None:
        """Drop what was only kept for this layer."""
        self._release(self._beside[layer.name])

    def _value(self, name: str) -> Any:
        return self._values[name] if name in self._values else self._executor.params[name]

    def _release(self, names: Iterable[str]) -> None:
        for name in names:
            self._readers[name] -= 1
            if not self._readers[name]:
                self._values.pop(name, None)

    def _dependents(self, layer: LayerStep) -> tuple[Step, ...]:
        changed, found = {layer.binding}, []
        for step in self._executor.steps:
            if not changed.isdisjoint(step.inputs):
                changed.add(step.name)
                found.append(step)
        return tuple(found)

    def _read_from_outside(self, layer: LayerStep) -> tuple[str, ...]:
        """What the layer and the steps behind it read of what is not behind it, parameters left out."""
        behind = {layer.binding, *(step.name for step in self._behind[layer.name])}
        read = dict.fromkeys([layer.input, *(name for step in self._behind[layer.name] for name in step.inputs)])
        return tuple(name for name in read if name not in behind and name not in self._executor.params)

    def _evaluate(self, step: Step, read: list[Any], values: Mapping[str, Any]) -> Any:
        owned = [i for i, name in enumerate(step.inputs) if name in values and name in self._own]
        made = _overwrite(step, read, owned)
        return step.evaluate(read) if made is None else made


def _overwrite(step: Step, read: Sequence[torch.Tensor], owned: Sequence[int]) -> torch.Tensor | None:
    """The step computed in the memory of one of the `owned` operands, bit for bit; None where that cannot be.

    Large tensors cost more to allocate than these operators take.
    """
    if step.op == "relax.nn.relu" and owned:
        return F.relu_(read[0])
    if step.op == "relax.clip" and owned:
        low, high = (float(argument.value) for argument in step.expr.args[1:3])
        return F.hardtanh_(read[0], low, high) if math.isfinite(high - low) else None
    if step.op == "relax.add" and len(read) == 2:
        shape = torch.broadcast_shapes(*(value.shape for value in read))
        for i in owned:
            if read[i].shape == shape and read[0].dtype == read[1].dtype:
                return read[i].add_(read[1 - i])
    return None
