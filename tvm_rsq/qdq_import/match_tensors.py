"""Which tensor of the deploy form is which activation of the QDQ network: they hold the same values.

Passes fold, move and rename what lies between, and layouts differ, so that names do not tell. Both networks are run on noise of two sizes
in float64; two tensors are the same where their sorted values are. Sorted, since a tensor that is merely moved has the same scale. Of large
ones, the least and the largest values and the means of all. Values that are all alike, such as what a dead relu makes, tell nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
_GAINS = (1.0, 0.1)
_LARGE, _ENDS = 2**17, 2**12  # values of a tensor that is not sorted as a whole, and how many of either end are


@dataclass(frozen=True, slots=True, kw_only=True)
class Matched:
    """found: tensor of the deploy form -> the file's word on it; tensors: the file's activation -> the tensors that hold its values.

    twice  activations of the file that hold the values of an earlier one and have another scale
    """

    found: Mapping[str, TensorQuant]
    tensors: Mapping[str, tuple[str, ...]]
    twice: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class _Print:
    """The sorted values of a tensor, or of a large one its ends and means, by each probe.   size: of the tensor, in values"""

    size: int
    values: tuple[np.ndarray, ...]

    @property
    def tells(self) -> bool:
        """Whether the values are not all alike, over all probes: a tensor of one value differs from probe to probe."""
        return len({value for values in self.values for value in (values[0], values[-1])}) > 1

    def same_as(self, other: _Print) -> bool:
        same_size = self.size == other.size
        return same_size and all(_close(own, others) for own, others in zip(self.values, other.values, strict=True))


def match_tensors(deploy: Model, quantization: SourceQuantization, seed: int = 0) -> Matched:
    """Of every tensor of `deploy` that the file quantizes. Where the file quantizes one value twice, the first counts."""
    if quantization.probe is None:
        return Matched(found={}, tensors={})
    prints_of, prints_here = _probed(quantization.probe, deploy, seed)
    known = [(name, quant, made) for (name, quant), made in zip(quantization.tensors.items(), prints_of, strict=False) if made.tells]
    found: dict[str, TensorQuant] = {}
    tensors: dict[str, list[str]] = {name: [] for name in quantization.tensors}
    twice: dict[str, None] = {}
    for tensor, here in prints_here.items():
        same = [(name, quant) for name, quant, there in known if here.same_as(there)]
        if same:
            found[tensor] = same[0][1]
        for name, quant in same:
            tensors[name].append(tensor)
            if quant != same[0][1]:
                twice[name] = None
    return Matched(found=found, tensors={name: tuple(each) for name, each in tensors.items()}, twice=tuple(twice))


def _probed(probe: Model, deploy: Model, seed: int) -> tuple[list[_Print], dict[str, _Print]]:
    """Of the probe's outputs, and of every float tensor of the deploy form."""
    generator = torch.Generator().manual_seed(seed)
    outputs: list[list[_Print]] = []
    here: dict[str, list[_Print]] = {}

    def observe(tensor: str, value: torch.Tensor) -> None:
        if value.is_floating_point():
            here.setdefault(tensor, []).append(_print(value))

    with torch.no_grad():
        for gain in _GAINS:
            inputs = [gain * torch.randn((1, *spec.shape[1:]), generator=generator, dtype=torch.float64) for spec in deploy.inputs]
            outputs.append([_print(value) for value in Executor(probe, dtype=torch.float64).run(inputs)])
            Executor(deploy, dtype=torch.float64).run(inputs, observe=observe)
    return [_joined(parts) for parts in zip(*outputs, strict=True)], {name: _joined(parts) for name, parts in here.items()}


def _joined(parts: Sequence[_Print]) -> _Print:
    return _Print(parts[0].size, tuple(part.values[0] for part in parts))


def _close(own: np.ndarray, others: np.ndarray) -> bool:
    room = _TOLERANCE * max(abs(own[0]), abs(own[-1]))
    if not (abs(own[0] - others[0]) <= room and abs(own[-1] - others[-1]) <= room):
        return False
    return bool(np.abs(own - others).max() <= room)


def _print(value: torch.Tensor) -> _Print:
    """Of one probe."""
    flat = value.reshape(-1).numpy()
    if flat.size <= _LARGE:
        return _Print(flat.size, (np.sort(flat),))
    split = np.partition(flat, (_ENDS - 1, flat.size - _ENDS))
    means = (flat.mean(), np.abs(flat).mean(), np.sqrt(np.square(flat).mean()))
    return _Print(flat.size, (np.concatenate([np.sort(split[:_ENDS]), means, np.sort(split[-_ENDS:])]),))
