"""How many samples to run at once, so that memory stays bounded whatever the network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from tvm_rsq.calibration_set import CalibrationSet
from tvm_rsq.executor import Executor

# Of the largest value. More samples at once run no faster, and their values leave the last-level cache between operators.
CHUNK_BYTES = 24 * 2**20


def largest_value(executor: Executor, sample: Sequence[torch.Tensor]) -> int:
    """Bytes of the largest value when one sample is run (inputs of batch 1)."""
    sizes: list[int] = []
    with torch.no_grad():
        executor.run(sample, observe=lambda _name, value: sizes.append(value.numel() * value.element_size()))
    return max(sizes)


def samples_within(chunk_bytes: int, executor: Executor, calibration: CalibrationSet) -> int:
    """How many samples to run at once so that no value takes more than `chunk_bytes`, at least 1; chunks come out about equal."""
    most = max(1, chunk_bytes // largest_value(executor, tensors(calibration.inputs, 0, 1)))
    return -(-len(calibration) // -(-len(calibration) // most))


def tensors(inputs: Sequence[np.ndarray], start: int, stop: int) -> tuple[torch.Tensor, ...]:
    """Samples start to stop of every input, as torch tensors that share the arrays' memory where they can."""
    return tuple(torch.from_numpy(np.require(array[start:stop], requirements=["C", "W"])) for array in inputs)


def chunks(calibration: CalibrationSet, size: int) -> Iterator[tuple[int, tuple[torch.Tensor, ...]]]:
    """(first sample, inputs) of consecutive chunks of at most `size` samples."""
    for start in range(0, len(calibration), max(1, size)):
        yield start, tensors(calibration.inputs, start, start + max(1, size))
