"""A network cut into blocks: runs of steps between tensors that are the only ones alive.

    x -> conv1 -> relu -> conv2 -> add -> relu -> y        x and y are cuts; behind conv1, x is still wanted: one block
     \\_______________________________/

A residual block is a block of its own. Where every tensor is a cut (a chain), cuts follow the bottlenecks: a cut is dropped where its
tensor is larger than the next one's, or as large and larger than the block's input, so that an expansion stays with its projection (units
as those of Li et al., "BRECQ", ICLR 2021). Where no tensor is a cut (dense connections), long runs are split at stored tensors, and such a
block has several inputs.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from tvm_rsq.executor import Executor, LayerStep, Step
from tvm_rsq.executor_windows import static_shape

MERGED_LAYERS = 4  # most layers of a block that was merged of several
LONGEST = 8  # layers above which a block is split


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class NetworkBlock:
    """Consecutive steps of an executor.

    inputs   activations read from outside (the network's inputs among them), in the order of first use
    outputs  what it binds and is wanted outside: by later blocks, or as an output of the network
    layers   the convolutions and dense layers in it, in execution order
    """

    steps: tuple[Step, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    layers: tuple[LayerStep, ...]


def network_blocks(executor: Executor, stored: Collection[str], *, layerwise: bool = False) -> tuple[NetworkBlock, ...]:
    """Blocks that hold every step once, in execution order.

    stored     tensors between kernels (QuantPlan.tensors): no kernel is cut
    layerwise  cut at every stored tensor instead: blocks of one layer, or of a few where their kernels are interleaved
    """
    pieces = _pieces(executor, stored, whole=not layerwise)
    if not layerwise:
        pieces = [part for piece in _merged(executor, pieces) for part in _split(executor, piece, stored)]
    return tuple(_block(executor, steps) for steps in _with_layers(executor, pieces))


def _pieces(executor: Executor, stored: Collection[str], *, whole: bool) -> list[list[Step]]:
    """Runs that end in a stored tensor; with `whole`, in one that is all that later steps read."""
    last_read = {name: i for i, step in enumerate(executor.steps) for name in step.inputs if name not in executor.params}
    pieces: list[list[Step]] = [[]]
    alive_until = max((last_read.get(spec.name, -1) for spec in executor.model.inputs), default=-1)
    for i, step in enumerate(executor.steps):
        pieces[-1].append(step)
        alone = alive_until <= i
        alive_until = max(alive_until, last_read.get(step.name, -1))
        if step.name in stored and (alone or not whole):
            pieces.append([])
    return pieces if pieces[-1] else pieces[:-1]


def _merged(executor: Executor, pieces: Sequence[list[Step]]) -> list[list[Step]]:
    merged: list[list[Step]] = []
    for piece in pieces:
        if merged and _joins(executor, merged[-1], piece):
            merged[-1] = merged[-1] + piece
        else:
            merged.append(piece)
    return merged


def _joins(executor: Executor, block: list[Step], piece: list[Step]) -> bool:
    if _layer_count(executor, block) + _layer_count(executor, piece) > MERGED_LAYERS:
        return False
    cut, following = _size(block[-1]), _size(piece[-1])
    return cut > following or (cut == following and cut > _input_size(executor, block))


def _split(executor: Executor, steps: list[Step], stored: Collection[str]) -> list[list[Step]]:
    """A run of more than LONGEST layers in about equal parts, each ending in a stored tensor."""
    total = _layer_count(executor, steps)
    if total <= LONGEST:
        return [steps]
    most = math.ceil(total / math.ceil(total / LONGEST))
    parts: list[list[Step]] = [[]]
    for step in steps:
        parts[-1].append(step)
        if step.name in stored and _layer_count(executor, parts[-1]) >= most:
            parts.append([])
    return parts if parts[-1] else parts[:-1]


def _with_layers(executor: Executor, pieces: Sequence[list[Step]]) -> list[list[Step]]:
    """Pieces without a layer go to the piece before them; the first ones to the piece behind."""
    found: list[list[Step]] = []
    for piece in pieces:
        if found and (not _layer_count(executor, piece) or not _layer_count(executor, found[-1])):
            found[-1] = found[-1] + piece
        else:
            found.append(list(piece))
    return found


def _block(executor: Executor, steps: Sequence[Step]) -> NetworkBlock:
    bound = {step.name for step in steps}
    read = dict.fromkeys(name for step in steps for name in step.inputs)
    outside = {name for step in executor.steps if step.name not in bound for name in step.inputs} | set(executor.outputs)
    return NetworkBlock(
        steps=tuple(steps),
        inputs=tuple(name for name in read if name not in bound and name not in executor.params),
        outputs=tuple(step.name for step in steps if step.name in outside),
        layers=tuple(layer for layer in executor.layers if layer.binding in bound),
    )


def _layer_count(executor: Executor, steps: Sequence[Step]) -> int:
    names = {step.name for step in steps}
    return sum(layer.binding in names for layer in executor.layers)


def _size(step: Step) -> int:
    """Elements of what a step binds; 0 for a tuple."""
    return math.prod(static_shape(step.expr)) if hasattr(step.expr.ty, "shape") else 0


def _input_size(executor: Executor, steps: Sequence[Step]) -> int:
    """Elements of the largest activation that steps read from outside."""
    bound, sizes = {step.name for step in steps}, {step.name: _size(step) for step in executor.steps}
    sizes |= {spec.name: math.prod(spec.shape) for spec in executor.model.inputs}
    return max((sizes[name] for step in steps for name in step.inputs if name in sizes and name not in bound), default=0)
