"""How many images and steps synthesis takes: from the network's size, so that equal networks get equal plans.

The clock is not asked (the same seed, model and machine are to give the same images); the time of a step is estimated from the network's
multiply-accumulates and the bytes of its values, with rates that two cores of a server CPU reach.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from tvm_rsq.config import SynthesisConfig
from tvm_rsq.executor import Executor

_SECONDS_PER_MAC = 2.2e-11  # forward, and backward with respect to the values only
_SECONDS_PER_BYTE = 5e-10  # of every value: written, read, and the same for its gradient
# Of values of one batch, which all live until the backward pass. Where images are learned from, the more have their statistics matched
# together, the better: MobileNetV2 W4A8 was at KL 0.088 from 32 at once, at 0.108 from twice 16 (one seed, 500 photos).
_STEP_BYTES = {"instant": 2.2e9, "best": 4.0e9}
_USUAL_SECONDS, _MOST_PATIENCE = 0.05, 2.2  # of an image-step of such a network; a larger one may take longer, up to this factor
_FEWEST_IMAGES = 4


@dataclass(frozen=True, slots=True)
class _Limits:
    """The most images and steps, the fewest steps, and the seconds for a network like MobileNetV2."""

    images: int
    steps: int
    fewest_steps: int
    seconds: float


_LIMITS = {
    ("retro-synthesis", "instant"): _Limits(16, 120, 60, 100.0),
    ("retro-synthesis", "best"): _Limits(32, 160, 60, 300.0),
    # ZeroQ's published steps, which only the user shortens
    ("zeroq", "instant"): _Limits(16, 500, 500, 100.0),
    ("zeroq", "best"): _Limits(64, 500, 500, 800.0),
    # GENIE's are 4000, which take hours here
    ("generator", "instant"): _Limits(16, 500, 120, 100.0),
    ("generator", "best"): _Limits(64, 2000, 240, 800.0),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkCost:
    """One sample through the network.   macs in layers, value_bytes of all values together"""

    macs: int
    value_bytes: int

    def __add__(self, other: NetworkCost) -> NetworkCost:
        return NetworkCost(macs=self.macs + other.macs, value_bytes=self.value_bytes + other.value_bytes)

    @property
    def seconds(self) -> float:
        """An estimate for one image in one optimiser step, on two cores."""
        return self.macs * _SECONDS_PER_MAC + self.value_bytes * _SECONDS_PER_BYTE


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What to spend.   images in all, batch of them at once, steps for each batch; notes for the report"""

    images: int
    batch: int
    steps: int
    notes: tuple[str, ...] = ()


def network_cost(executor: Executor, sample: Sequence[torch.Tensor]) -> NetworkCost:
    """Run one sample (inputs of batch 1) and count."""
    layers = {layer.binding: layer for layer in executor.layers}
    macs = total = 0

    def count(name: str, value: torch.Tensor) -> None:
        nonlocal macs, total
        total += value.numel() * value.element_size()
        if name in layers:
            weight = executor.params[layers[name].name]
            macs += value.numel() * weight.numel() // weight.shape[layers[name].axis]

    with torch.no_grad():
        executor.run(sample, observe=count)
    return NetworkCost(macs=macs, value_bytes=total)


def plan_budget(cost: NetworkCost, config: SynthesisConfig, effort: Literal["instant", "best"]) -> Budget:
    """The images, batch and steps of config.source that fit the effort's time; whatever the configuration states is kept as it is.

    Steps give way first, down to the fewest that the source can do with, then images, down to 4.
    """
    most = _LIMITS[config.source, effort]
    images, steps = config.images or most.images, config.steps or most.steps
    usual = (images, steps)
    seconds = most.seconds * min(max(1.0, math.sqrt(cost.seconds / _USUAL_SECONDS)), _MOST_PATIENCE)
    affordable = seconds / cost.seconds  # image-steps
    if config.steps is None:
        steps = min(steps, max(most.fewest_steps, int(affordable / images)))
    if config.images is None:
        images = min(images, max(_FEWEST_IMAGES, int(affordable / steps)))
    if config.batch is None:
        fitting = max(1, int(_STEP_BYTES[effort] / cost.value_bytes))
        groups = -(-images // min(images, fitting, 32))
        batch = -(-images // groups)
    else:
        batch = min(config.batch, images)
    estimate = images * steps * cost.seconds
    # The estimate leaves out what every operator costs however small it is, so for small networks it says only that.
    time = f"about {estimate:.0f} s" if estimate >= 10 else "well under a minute"
    note = f"{images} images in batches of {batch}, {steps} steps each: {time} on two cores"
    if (images, steps) != usual:
        note += f"; fewer than the usual {usual[0]} images and {usual[1]} steps, for the network's size"
    return Budget(images=images, batch=batch, steps=steps, notes=(note,))
