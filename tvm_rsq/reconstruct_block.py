"""One block's roundings, biases and activation scales, learned from what the block computed in float.

    minimise   sum over outputs of E|y_f - y_q|^2 / e0  +  weight * mean over layers of penalty(v)

y_q is computed from the inputs that earlier blocks left, and stored activations of fewer than 8 bits are rounded as they will be, with
scales that are learned (see learned_scale). With `keep_float`, each of their elements, and of the block's inputs, stays float with that
probability (Wei et al., "QDrop", ICLR 2022, take 1/2), which keeps roundings from fitting one pattern of activation errors. e0 is the error
of the rounding that was started from, so that `weight` means the same in every block. Roundings are soft (see soft_rounding) until the end;
Adam makes few and large steps, as a CPU has to do with hundreds of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from tvm_rsq.learned_scale import LearnedScale
from tvm_rsq.network_blocks import NetworkBlock
from tvm_rsq.sensitivity import fake_quantized
from tvm_rsq.soft_rounding import SoftRounding, annealed_beta
from tvm_rsq.tensor_quant import TensorQuant
from tvm_rsq.torch_device import device_generator

_SMALLEST = 1e-30
_ROUNDING = 1e-6  # of an error: float32 sums of the same weights may differ by as much, as their place in memory is


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How a block is learned.

    iterations, batch   steps of Adam, and images in each
    keep_float          probability that an element of an activation stays float; 0 is no drop
    mix_input           whether the block's inputs are mixed likewise
    rate                of the soft roundings; bias_rate, in parts of the layer's output deviation; scale_rate, in parts of the scale
    penalty_weight      see above
    """

    iterations: int
    batch: int
    keep_float: float = 0.0
    mix_input: bool = True
    rate: float = 0.1
    bias_rate: float = 1e-2
    scale_rate: float = 4e-3
    penalty_weight: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BlockData:
    """All images' values at a block's ends, float32 (N, ...) each.

    exact, rough  input -> its value in the float and in the quantized network
    targets       output -> its value in the float network
    """

    exact: Mapping[str, torch.Tensor]
    rough: Mapping[str, torch.Tensor]
    targets: Mapping[str, torch.Tensor]

    def __len__(self) -> int:
        return len(next(iter(self.targets.values())))


@dataclass(kw_only=True)
class BlockUnderWay:
    """A block with what is learned of it.

    params     the quantized network's parameters as far as they are decided; parameters of the float network for the rest
    roundings  layer -> its soft rounding
    biases     bias parameter -> the layer's binding, whose output's deviation is the unit of its steps
    quants     stored tensor -> its quantization, inputs of the block left out
    scales     stored tensor -> its learned scale, one object for tensors that share it
    """

    block: NetworkBlock
    params: Mapping[str, torch.Tensor]
    roundings: Mapping[str, SoftRounding] = field(default_factory=dict)
    biases: Mapping[str, str] = field(default_factory=dict)
    quants: Mapping[str, TensorQuant] = field(default_factory=dict)
    scales: Mapping[str, LearnedScale] = field(default_factory=dict)

    def run(
        self, inputs: Mapping[str, torch.Tensor], params: Mapping[str, torch.Tensor], stored: Callable[[str, Any], Any]
    ) -> dict[str, Any]:  # fmt: skip
        """Step -> its value, `stored` applied to each.   params: in the place of the block's own"""
        values: dict[str, Any] = dict(inputs)
        for step in self.block.steps:
            read = [values[n] if n in values else params[n] if n in params else self.params[n] for n in step.inputs]
            values[step.name] = stored(step.name, step.evaluate(read))
        return values

    def quantized(self, name: str, value: Any) -> Any:
        """What is stored of a value, with the scales as they are learned so far."""
        quant = self.quants.get(name)
        if quant is not None and name in self.scales:
            quant = self.scales[name].learned(quant)
        return fake_quantized(value, quant)

    def outputs(self, inputs: Mapping[str, torch.Tensor], params: Mapping[str, torch.Tensor], size: int) -> dict[str, torch.Tensor]:
        """Output -> its stored value for all images, run `size` at a time."""
        count = len(next(iter(inputs.values())))
        parts = []
        with torch.no_grad():
            for start in range(0, count, size):
                values = self.run({name: value[start : start + size] for name, value in inputs.items()}, params, self.quantized)
                parts.append([values[name] for name in self.block.outputs])
        return {name: torch.cat(columns) for name, columns in zip(self.block.outputs, zip(*parts, strict=True), strict=True)}


def learn(
    work: BlockUnderWay, data: BlockData, settings: Settings, started: Mapping[str, torch.Tensor], generator: torch.Generator,
    go_on: Callable[[], bool] = lambda: True, *, chunk: int,
) -> dict[str, torch.Tensor] | None:  # fmt: skip
    """Parameter -> its learned value (weights hard); nothing where nothing was gained, None where `go_on` returned False.

    started  the parameters to compare with: the rounding from which this one starts
    chunk    samples to be run at once where nothing is learned
    work.scales are learned in place
    """
    before = _errors(work, data, started, chunk)
    units = _deviations(work, data, started, settings.batch)
    moved = {name: torch.zeros_like(work.params[name]).requires_grad_() for name in work.biases}
    masks = device_generator(next(iter(data.targets.values())).device, generator)
    optimizer, schedule = _optimizer(work, moved, settings)
    for i in range(settings.iterations):
        if not go_on():
            return None
        chosen = torch.randperm(len(data), generator=generator)[: settings.batch].to(masks.device)
        params = {name: rounding.weight() for name, rounding in work.roundings.items()}
        params |= {name: work.params[name] + units[name] * moved[name] for name in moved}
        loss = _loss(work, data, chosen, params, before, settings, masks)
        beta = annealed_beta(i / settings.iterations)
        if beta is not None:
            penalties = [rounding.penalty(beta) for rounding in work.roundings.values()]
            loss = loss + settings.penalty_weight * sum(penalties) / len(penalties)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    found = {name: rounding.hard() for name, rounding in work.roundings.items()}
    found |= {name: (work.params[name] + units[name] * moved[name]).detach() for name in moved}
    after = _errors(work, data, found, chunk)
    return found if _total(after, before) < len(before) * (1 - _ROUNDING) else {}


def _loss(
    work: BlockUnderWay, data: BlockData, chosen: torch.Tensor, params: Mapping[str, torch.Tensor], before: Mapping[str, float],
    settings: Settings, masks: torch.Generator,
) -> torch.Tensor:  # fmt: skip
    def mix(exact: torch.Tensor, rough: torch.Tensor) -> torch.Tensor:
        return torch.where(torch.rand(rough.shape, generator=masks, device=rough.device) < settings.keep_float, exact, rough)

    def stored(name: str, value: Any) -> Any:
        if name not in work.scales:
            return value  # 8 bits: too fine to matter here, and too dear
        made = work.scales[name].quantize(value, work.quants[name])
        return mix(value, made) if settings.keep_float > 0 else made

    inputs = {name: value[chosen] for name, value in data.rough.items()}
    if settings.mix_input and settings.keep_float > 0:
        inputs = {name: mix(data.exact[name][chosen], value) for name, value in inputs.items()}
    values = work.run(inputs, params, stored)
    return torch.stack([(values[n] - data.targets[n][chosen]).square().mean() / max(before[n], _SMALLEST) for n in before]).sum()


def _optimizer(work: BlockUnderWay, moved: Mapping[str, torch.Tensor], settings: Settings) -> tuple[Any, Any]:
    groups = [
        {"params": [rounding.v for rounding in work.roundings.values()], "lr": settings.rate},
        {"params": list(moved.values()), "lr": settings.bias_rate},
        {"params": [scale.t for scale in dict.fromkeys(work.scales.values())], "lr": settings.scale_rate},
    ]
    optimizer = torch.optim.Adam([group for group in groups if group["params"]])
    rates = [lambda _i: 1.0] + [_cosine(settings.iterations)] * (len(optimizer.param_groups) - 1)
    return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, rates)


def _cosine(iterations: int) -> Callable[[int], float]:
    return lambda i: 0.5 * (1 + math.cos(math.pi * min(i / max(iterations, 1), 1.0)))


def _errors(work: BlockUnderWay, data: BlockData, params: Mapping[str, torch.Tensor], size: int) -> dict[str, float]:
    made = work.outputs(data.rough, params, size)
    return {name: float((made[name] - data.targets[name]).square().mean(dtype=torch.float64)) for name in work.block.outputs}


def _deviations(work: BlockUnderWay, data: BlockData, params: Mapping[str, torch.Tensor], size: int) -> dict[str, float]:
    """Bias -> the deviation of its layer's sums, on the first images."""
    with torch.no_grad():
        values = work.run({name: value[:size] for name, value in data.rough.items()}, params, work.quantized)
    return {name: float(values[binding].std(correction=0)) for name, binding in work.biases.items()}


def _total(after: Mapping[str, float], before: Mapping[str, float]) -> float:
    return sum(after[name] / max(before[name], _SMALLEST) for name in before)
