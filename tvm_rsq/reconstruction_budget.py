"""How many steps and images each block's reconstruction takes: from the network's size, so that equal networks get equal plans.

Every block gets the same number of steps. How many images a step takes follows from what the block costs, so that each block takes about
the same time: blocks with large maps see fewer images at once, and enough positions all the same.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from tvm_rsq.executor import Executor
from tvm_rsq.network_blocks import NetworkBlock
from tvm_rsq.reconstruct_block import Settings

SECONDS = 300.0  # of a network of usual size, on two cores
_SECONDS_PER_MAC = 4e-11  # forward and backward, with respect to values and weights
_SECONDS_PER_BYTE = 4e-10  # of every value
_SECONDS_PER_WEIGHT = 3e-8  # of every step: soft rounding, its gradient, Adam
_MOST_STEPS, _FEWEST_STEPS = 400, 100
_MOST_IMAGES, _FEWEST_IMAGES = 32, 2
_VIEWS, _SEEN = 8, 256  # of each image, and of all images together
_KEPT_BYTES = 1.5e9  # of all images' values at the ends of a block; what later blocks read of earlier ones comes on top
_CHUNK_BYTES = 128 * 2**20  # of all values of a block, where it is only run


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockCost:
    """Of one block.

    image_s, step_s  seconds of a step, for each image and for the weights
    chunk            images to be run at once
    kept             bytes that stay of each image: the block's ends, in the float and in the quantized network
    """

    image_s: float
    step_s: float
    chunk: int
    kept: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """settings: of every block, in order; notes for the report"""

    settings: tuple[Settings, ...]
    notes: tuple[str, ...] = ()


def block_costs(executor: Executor, blocks: Sequence[NetworkBlock], sample: Sequence[torch.Tensor]) -> list[BlockCost]:
    """Run one sample (inputs of batch 1) and count."""
    elements: dict[str, int] = {}
    with torch.no_grad():
        executor.run(sample, observe=lambda name, value: elements.__setitem__(name, value.numel()))
    return [_cost(executor, block, elements) for block in blocks]


def fitting(costs: Sequence[BlockCost]) -> int:
    """How many images' values can be kept, at least 1."""
    return max(1, int(_KEPT_BYTES // max((1, *(cost.kept for cost in costs)))))


def views(costs: Sequence[BlockCost], images: int) -> int:
    """How many views of each of so many images to learn from (see augment), at least 1."""
    return max(1, min(_VIEWS, min(_SEEN, fitting(costs)) // images))


def plan_budget(costs: Sequence[BlockCost], images: int, *, seconds: float = SECONDS, **settings: Any) -> Budget:
    """Steps and images of each block.   settings: fields of Settings that are not to be the defaults; `iterations` is the most"""
    given = Settings(iterations=settings.pop("iterations", _MOST_STEPS), batch=1, **settings)
    each = seconds / len(costs)
    batches = [_images(cost, each / given.iterations, images) for cost in costs]
    estimate = sum(given.iterations * (cost.step_s + batch * cost.image_s) for cost, batch in zip(costs, batches, strict=True))
    steps = max(min(_FEWEST_STEPS, given.iterations), min(given.iterations, int(given.iterations * seconds / max(estimate, 1e-9))))
    note = f"{len(costs)} blocks, {steps} steps each, of {min(batches)} to {max(batches)} views"
    return Budget(settings=tuple(replace(given, iterations=steps, batch=batch) for batch in batches), notes=(note,))


def _images(cost: BlockCost, step_s: float, images: int) -> int:
    affordable = (step_s - cost.step_s) / max(cost.image_s, 1e-12)
    return min(images, max(_FEWEST_IMAGES, min(_MOST_IMAGES, math.floor(affordable))))


def _cost(executor: Executor, block: NetworkBlock, elements: Mapping[str, int]) -> BlockCost:
    macs = weights = 0
    for layer in block.layers:
        weight = executor.params[layer.name]
        macs += elements[layer.binding] * weight.numel() // weight.shape[layer.axis]
        weights += weight.numel()
    values = 4 * sum(elements.get(step.name, 0) for step in block.steps)
    return BlockCost(
        image_s=macs * _SECONDS_PER_MAC + values * _SECONDS_PER_BYTE,
        step_s=weights * _SECONDS_PER_WEIGHT,
        chunk=max(1, _CHUNK_BYTES // max(values, 1)),
        kept=8 * sum(elements.get(name, 0) for name in {*block.inputs, *block.outputs}),
    )
