"""The networks whose weights are in this checkout: as accurate as their files say, and imported as they are."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from scripts.cifar_training.recipe import RECIPES
from scripts.cifar_training.train import accuracy
from scripts.models.cifar10 import load_cifar10
from scripts.models.fetch import is_cached
from scripts.models.registry import load
from scripts.models.stored_weights import read_weights, weights_path
from tvm_rsq.executor import Executor
from tvm_rsq.frontend.load_model import load as load_model

PARAMETERS = {"resnet20-cifar": 272474, "vgg-cifar": 260010}
LEAST = {"resnet20-cifar": 0.9, "vgg-cifar": 0.86}  # of the 10000 test images
SAMPLES = 1000  # that are looked at here: the share varies by about 0.01 among such samples


@pytest.mark.parametrize("name", PARAMETERS)
def test_the_file_says_how_it_was_made(name: str) -> None:
    state, facts = read_weights(name)
    assert facts["command"] == f"scripts/train_cifar {name} --seed {facts['seed']} --threads {facts['threads']}"
    assert facts["epochs"] == RECIPES[name].epochs and facts["test_images"] == 10000
    assert facts["test_accuracy"] >= LEAST[name]
    assert {tensor.dtype for entry, tensor in state.items() if not entry.endswith("num_batches_tracked")} == {torch.float32}
    assert sum(parameter.numel() for parameter in load(name).model.parameters()) == PARAMETERS[name]
    assert weights_path(name).stat().st_size < 1.2e6


@pytest.mark.parametrize("name", PARAMETERS)
def test_it_is_as_accurate_as_its_file_says(name: str) -> None:
    if not is_cached("cifar10"):
        pytest.skip("cifar10 is not in the cache; run: scripts/fetch_models cifar10")
    network = load(name)
    images, labels = load_cifar10("test")
    found = accuracy(network.model, network.preprocessing.normalized(images[:SAMPLES]), labels[:SAMPLES])
    assert found == pytest.approx(read_weights(name)[1]["test_accuracy"], abs=0.03)


@pytest.mark.parametrize("name", PARAMETERS)
def test_it_is_imported_and_computes_the_same(name: str) -> None:
    network = load(name)
    imported = load_model(network.model, network.example_inputs)
    (got,) = Executor(imported).run(list(network.example_inputs))
    np.testing.assert_allclose(got.numpy(), network.model(*network.example_inputs).numpy(), rtol=1e-4, atol=1e-4)
