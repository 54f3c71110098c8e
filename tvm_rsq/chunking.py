"""How many samples to run at once, so that memory stays bounded whatever the network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from tvm_rsq.calibration_set import CalibrationSet
from tvm_rsq.executor import Executor


@dataclass(frozen=True, slots=True)
class ValueBytes:
    """Bytes of one sample's values: of all of them together, and of the largest one."""

    total: int
    largest: int


def measure_values(executor: Executor, sample: Sequence[torch.Tensor]) -> ValueBytes:
    """Run one sample (inputs of batch 1) and add up its values."""
    sizes: list[int] = []
    with torch.no_grad():
        executor.run(sample, observe=lambda _name, value: sizes.append(value.numel() * value.element_size()))
    return ValueBytes(total=sum(sizes), largest=max(sizes))


def tensors(inputs: Sequence[np.ndarray], start: int, stop: int) -> tuple[torch.Tensor, ...]:
    """Samples start to stop of every input, as torch tensors that share the arrays' memory where they can."""
    return tuple(torch.from_numpy(np.require(array[start:stop], requirements=["C", "W"])) for array in inputs)


def chunks(calibration: CalibrationSet, size: int) -> Iterator[tuple[int, tuple[torch.Tensor, ...]]]:
    """(first sample, inputs) of consecutive chunks of at most `size` samples."""
    for start in range(0, len(calibration), max(1, size)):
        yield start, tensors(calibration.inputs, start, start + max(1, size))
