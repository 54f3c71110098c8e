"""Images of leaves: size, seed, and what makes them like photographs."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tvm_rsq.dead_leaves import dead_leaves
from tvm_rsq.model import InputSpec
from tvm_rsq.natural_noise import natural_noise


def specs(*shapes):
    return [InputSpec(name=f"x{i}", shape=shape, dtype="float32") for i, shape in enumerate(shapes)]


@pytest.mark.parametrize("shape", [(1, 3, 32, 32), (1, 1, 7, 50), (1, 4, 2, 2), (1, 10), (1, 3, 1, 9), (1, 1, 2, 16000)])
def test_arrays_have_the_inputs_shape_and_deviation_1(shape):
    (images,) = dead_leaves(specs(shape), 12 if max(shape) < 1000 else 1, np.random.default_rng(0))
    assert images.shape[1:] == shape[1:] and images.dtype == np.float32 and np.isfinite(images).all()
    exact = len(shape) == 4 and min(shape[2:]) > 1  # images; white noise is of mean 0 on average only
    assert images.mean() == pytest.approx(0, abs=1e-4 if exact else 0.3) and images.std() == pytest.approx(1, abs=1e-3 if exact else 0.2)


def test_the_seed_decides():
    def first(seed):
        return dead_leaves(specs((1, 3, 24, 24), (1, 5)), 2, np.random.default_rng(seed))

    assert all(np.array_equal(a, b) for a, b in zip(first(0), first(0), strict=True))
    assert not np.array_equal(first(0)[0], first(1)[0])


def test_edges_are_rare_and_strong_as_in_photographs():
    shape = specs((1, 3, 96, 96))
    (leaves,), (noise,) = dead_leaves(shape, 8, np.random.default_rng(0)), natural_noise(shape, 8, torch.Generator().manual_seed(0))

    def kurtosis(images: np.ndarray) -> float:
        steps = np.diff(images, axis=-1)
        return float((steps**4).mean() / (steps**2).mean() ** 2)

    assert kurtosis(noise.numpy()) == pytest.approx(3, abs=0.5)
    assert kurtosis(leaves) > 8
