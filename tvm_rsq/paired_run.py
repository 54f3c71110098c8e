"""The float network and its quantized form on the same inputs, side by side, one step at a time.

    float      y_f = W   x_f + b          quantized   y_q = W_q x_q + b_q        x_q: what earlier layers left, stored as the plan says

The caller sees what both compute and may put another weight or another value in the quantized network's place before anything behind it is
computed: so each layer is fitted to inputs that carry the errors of all layers before it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from tvm_rsq.executor import Executor, LayerStep, Step
from tvm_rsq.sensitivity import fake_quantized
from tvm_rsq.tensor_quant import TensorQuant


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LayerInputs:
    """What one layer reads.   step: its binding; x_float, x_quantized: (N, ...) of one shape; weight: float32, the network's own"""

    layer: LayerStep
    step: Step
    x_float: torch.Tensor
    x_quantized: torch.Tensor
    weight: torch.Tensor


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StepValues:
    """What one step computes.

    exact, rough  in the float and in the quantized network, before it is stored
    read          the quantized network's operands
    """

    step: Step
    exact: torch.Tensor
    rough: torch.Tensor
    read: Sequence[Any]


# A weight, or a value of the quantized network, in the place of its own; None to leave it.
Before = Callable[[LayerInputs], torch.Tensor | None]
After = Callable[[StepValues], torch.Tensor | None]


@dataclass(kw_only=True)
class PairedRun:
    """One walk through a deploy-form network.

    tensors   activation -> its quantization; what is not among them stays float in the quantized network too
    params    float32 parameters of the quantized network in place of the float one's; `walk` adds the weights that `before` returns
    """

    executor: Executor
    tensors: Mapping[str, TensorQuant]
    params: dict[str, torch.Tensor] = field(default_factory=dict)

    def walk(self, inputs: Sequence[torch.Tensor], *, before: Before | None = None, after: After | None = None) -> dict[str, torch.Tensor]:
        """Run both networks on `inputs` (N, ...); the parameters of the quantized one afterwards.

        Both networks' values live at once, each until its last use: about twice the memory of a float run.
        """
        executor = self.executor
        layers = {layer.binding: layer for layer in executor.layers}
        exact: dict[str, Any] = dict(executor.named(inputs))
        rough: dict[str, Any] = {name: fake_quantized(value, self.tensors.get(name)) for name, value in exact.items()}
        with torch.no_grad():
            for step, dead in executor.schedule:
                layer = layers.get(step.name)
                if layer is not None and before is not None:
                    read = LayerInputs(
                        layer=layer, step=step, x_float=exact[layer.input], x_quantized=rough[layer.input],
                        weight=executor.params[layer.name],
                    )  # fmt: skip
                    if (weight := before(read)) is not None:
                        self.params[layer.name] = weight
                exact[step.name] = step.evaluate([exact[n] if n in exact else executor.params[n] for n in step.inputs])
                operands = [rough[n] if n in rough else self._param(n) for n in step.inputs]
                value = step.evaluate(operands)
                if after is not None and isinstance(value, torch.Tensor):
                    replaced = after(StepValues(step=step, exact=exact[step.name], rough=value, read=operands))
                    value = value if replaced is None else replaced
                rough[step.name] = fake_quantized(value, self.tensors.get(step.name))
                for name in dead:
                    exact.pop(name, None)
                    rough.pop(name, None)
        return self.params

    def _param(self, name: str) -> torch.Tensor:
        return self.params.get(name, self.executor.params[name])
