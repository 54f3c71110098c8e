"""One QDQ network in another runtime, beside our library: outputs, and every stored tensor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import TensorProto, helper

from scripts.runtimes.runtimes import Run
from tvm_rsq.compiler import compile_exposed
from tvm_rsq.quantized_model import QuantizedModel
from tvm_rsq.targets.carried import level_array

_LEVELS = 255
"""A step of an output: its range in an image, in 8 bits. It is float, so that it has no scale of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """tensor  the first stored one, in the network's order, that is not equal everywhere
    part    of its values that differ
    most    levels that one of them is off
    """

    tensor: str
    part: float
    most: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """images       that were run
    same_class   of them, those with one largest output in both
    outputs      part of the network's outputs that are at most one step apart
    largest      difference of an output, in parts of the largest output
    within_step  part of all stored values that are at most one level apart; None where the runtime shows none
    equal        part of them that are equal
    first        None: all stored tensors are equal, or none is shown
    """

    images: int
    same_class: int
    outputs: float
    largest: float
    within_step: float | None = None
    equal: float | None = None
    first: Difference | None = None


@dataclass
class _Count:
    """Values seen, and those of them that agree."""

    values: int = 0
    near: int = 0
    equal: int = 0

    def add(self, apart: np.ndarray) -> None:
        """apart: in levels or steps"""
        self.values += apart.size
        self.near += int((apart <= 1).sum())
        self.equal += int((apart == 0).sum())


@dataclass
class _Tally:
    outputs: _Count = field(default_factory=_Count)
    stored: _Count = field(default_factory=_Count)
    same: int = 0
    largest: float = 0.0
    first: Difference | None = None


def compare(quantized: QuantizedModel, theirs: Run, images: np.ndarray) -> Comparison:
    """theirs: runs `exposed` of the network, or the network itself; images  float32 (n, ...), run one by one

    Tensors that the runtime does not have, which it may fuse away, are left out.
    """
    names, ours, tally = list(quantized.plan.tensors), compile_exposed(quantized), _Tally()
    for i in range(len(images)):
        image = images[i : i + 1]
        found = theirs(image)
        stored = {name: found[_stored(name)] for name in names if _stored(name) in found}
        own = ours.run(image)
        count = len(own) - len(names)
        _outputs(tally, own[:count], [found[name] for name in list(found)[: len(found) - len(stored)]])
        _stored_tensors(tally, stored, dict(zip(names, own[count:], strict=True)))
    shown = tally.stored.values > 0
    return Comparison(
        images=len(images), same_class=tally.same, outputs=tally.outputs.near / tally.outputs.values, largest=tally.largest,
        within_step=tally.stored.near / tally.stored.values if shown else None,
        equal=tally.stored.equal / tally.stored.values if shown else None, first=tally.first,
    )  # fmt: skip


def exposed(network: onnx.ModelProto, quantized: QuantizedModel) -> onnx.ModelProto:
    """Our export with its stored tensors as further outputs."""
    made = {name for node in network.graph.node for name in node.output}
    shapes = {each.name: each for each in onnx.shape_inference.infer_shapes(network).graph.value_info}
    for name in (_stored(tensor) for tensor in quantized.plan.tensors):
        if name in made:
            dims = [dim.dim_value for dim in shapes[name].type.tensor_type.shape.dim]
            network.graph.output.append(helper.make_tensor_value_info(name, TensorProto.UINT8, dims))
    return network


def _stored(tensor: str) -> str:
    return f"{tensor}_q"


def _outputs(tally: _Tally, ours: tuple[np.ndarray, ...], theirs: list[np.ndarray]) -> None:
    pairs = list(zip(ours, theirs, strict=True))
    tally.same += all(int(a.argmax()) == int(b.argmax()) for a, b in pairs)
    for a, b in pairs:
        apart = np.abs(a - b)
        tally.largest = max(tally.largest, float(apart.max() / np.abs(a).max()))
        tally.outputs.add(apart / ((a.max() - a.min()) / _LEVELS))


def _stored_tensors(tally: _Tally, theirs: Mapping[str, np.ndarray], ours: Mapping[str, np.ndarray]) -> None:
    for name, value in theirs.items():
        apart = np.abs(_in_our_order(value, ours[name]).astype(int) - level_array(ours[name]).astype(int))
        tally.stored.add(apart)
        if tally.first is None and apart.any():
            tally.first = Difference(tensor=name, part=float((apart > 0).mean()), most=int(apart.max()))


def _in_our_order(theirs: np.ndarray, ours: np.ndarray) -> np.ndarray:
    """Images lie channels first there."""
    if theirs.ndim == 4 and theirs.shape != ours.shape or theirs.ndim == 4 and theirs.shape[1] != ours.shape[1]:
        return theirs.transpose(0, 2, 3, 1)
    return theirs
