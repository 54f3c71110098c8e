"""Which tensor of the deploy form is which activation of the QDQ network: they hold the same values.

Passes fold, move and rename what lies between, and layouts differ, so that names do not tell. Both networks are run on one noise input in
float64; two tensors are the same where their sorted values are. Sorted, since a tensor that is merely moved has the same scale.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from tvm_rsq.executor import Executor
from tvm_rsq.model import Model
from tvm_rsq.qdq_import.source_quantization import SourceQuantization
from tvm_rsq.tensor_quant import TensorQuant

_TOLERANCE = 1e-5
"""Of the largest value: both compute in float64, but folded batch norms were rounded to float32. Tensors that merely look alike are apart
by far more in some of their sorted values."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Matched:
    """found: tensor of the deploy form -> the file's word on it; tensors: the file's activation -> the tensors that hold its values."""

    found: Mapping[str, TensorQuant]
    tensors: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True, eq=False)
class _Print:
    """The sorted values of a tensor."""

    values: np.ndarray

    def same_as(self, other: _Print) -> bool:
        if self.values.size != other.values.size:
            return False
        least, largest = self.values[0], self.values[-1]
        room = _TOLERANCE * max(abs(least), abs(largest))
        if not (abs(least - other.values[0]) <= room and abs(largest - other.values[-1]) <= room):
            return False
        return bool(np.abs(self.values - other.values).max() <= room)


def match_tensors(deploy: Model, quantization: SourceQuantization, seed: int = 0) -> Matched:
    """Of every tensor of `deploy` that the file quantizes. Where the file quantizes one value twice, the first counts."""
    if quantization.probe is None:
        return Matched(found={}, tensors={})
    generator = torch.Generator().manual_seed(seed)
    inputs = [torch.randn((1, *spec.shape[1:]), generator=generator, dtype=torch.float64) for spec in deploy.inputs]
    with torch.no_grad():
        outputs = Executor(quantization.probe, dtype=torch.float64).run(inputs)
    known = [(name, quant, _print(value)) for (name, quant), value in zip(quantization.tensors.items(), outputs, strict=False)]
    found: dict[str, TensorQuant] = {}
    tensors: dict[str, list[str]] = {name: [] for name in quantization.tensors}

    def observe(tensor: str, value: torch.Tensor) -> None:
        if not value.is_floating_point():
            return
        here = _print(value)
        same = [(name, quant) for name, quant, there in known if here.same_as(there)]
        if same:
            found[tensor] = same[0][1]
        for name, _ in same:
            tensors[name].append(tensor)

    with torch.no_grad():
        Executor(deploy, dtype=torch.float64).run(inputs, observe=observe)
    return Matched(found=found, tensors={name: tuple(each) for name, each in tensors.items()})


def _print(value: torch.Tensor) -> _Print:
    return _Print(np.sort(value.reshape(-1).numpy()))
