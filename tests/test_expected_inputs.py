"""What layers read on average, told from batch norms: it is what they read of the data that the batch norms were trained on."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.integer_networks import Block, conv
from tests.tiny_networks import classifier
from tests.trained_network import trained
from tvm_rsq.errors import ModelError
from tvm_rsq.executor import Executor
from tvm_rsq.expected_inputs import expected_inputs
from tvm_rsq.frontend.load_model import load
from tvm_rsq.layer_links import biased_layers
from tvm_rsq.layer_statistics import NormalStatistics, batch_norm_of_layers
from tvm_rsq.pipeline import prepare

# A pointwise convolution of noise is normal, but for what 16,000 samples are not.
EXACT, NEARLY_NORMAL = 0.005, 0.02


def check(module: nn.Module, known: set[str], tolerance: float, *, shape: tuple[int, ...] = (256, 6, 8, 8)) -> None:
    """Known are the means of those layers' inputs, to `tolerance` deviations of a value."""
    module, x = trained(module, *shape)
    source = load(module, (x[:1],))
    model = prepare(source)
    found = expected_inputs(model, batch_norm_of_layers(source))
    assert found.keys() == known
    layers, tensors = biased_layers(model), Executor(model).trace([x])
    for name in known:
        value = tensors[layers[name].input].double().flatten(0, -2)
        assert found[name].shape == value.shape[1:]
        np.testing.assert_allclose(found[name], value.mean(0).numpy(), atol=tolerance * float(value.std()))


def block(function: Callable, **parts: nn.Module) -> nn.Module:
    """function(m, a normalised tensor, x) between two layers with 8 channels: m.first and m.last."""
    parts = {"first": conv(6, 8, 1), "norm": nn.BatchNorm2d(8), "last": conv(8, 4, 1)} | parts
    return Block(lambda m, x: m.last(function(m, m.norm(m.first(x)), x)), **parts)


FUNCTIONS = {
    "linear": (lambda m, y, x: y, EXACT),
    "relu": (lambda m, y, x: F.relu(y), NEARLY_NORMAL),
    "relu6": (lambda m, y, x: F.relu6(y), NEARLY_NORMAL),
    "another clip": (lambda m, y, x: y.clamp(-0.5, 0.3), NEARLY_NORMAL),
    "average pool": (lambda m, y, x: F.avg_pool2d(F.relu(y), 2), NEARLY_NORMAL),
    "global average": (lambda m, y, x: F.relu(y).mean((2, 3), keepdim=True), NEARLY_NORMAL),
    "transpose": (lambda m, y, x: F.relu(y.transpose(2, 3)), NEARLY_NORMAL),
    "rows for channels": (lambda m, y, x: F.relu(y.transpose(1, 2)), NEARLY_NORMAL),
    "sum of the normal and its relu": (lambda m, y, x: y + F.relu(y), NEARLY_NORMAL),
    "shifted": (lambda m, y, x: F.relu(y + 1), NEARLY_NORMAL),
    "with itself": (lambda m, y, x: y + y, EXACT),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_one_function_between_two_layers(name):
    function, tolerance = FUNCTIONS[name]
    check(block(function), {"last.weight"}, tolerance)


UNKNOWN = {
    "max pool": lambda m, y, x: F.max_pool2d(F.relu(y), 2),
    "relu of a sum with a relu": lambda m, y, x: F.relu(F.relu(y) + y),
    "relu of what is added to itself": lambda m, y, x: F.relu(y + y),
    "relu of an average": lambda m, y, x: F.relu(F.avg_pool2d(y, 2)),
    "sum with the input": lambda m, y, x: y + torch.cat([x, x[:, :2]], 1),
    "product": lambda m, y, x: y * torch.sigmoid(y),
    "another activation": lambda m, y, x: torch.tanh(y),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_what_is_not_known(name):
    check(block(UNKNOWN[name]), set(), 0)


def test_sums_of_two_branches():
    parts = {"other": conv(6, 8, 1), "norm2": nn.BatchNorm2d(8)}
    both = lambda m, y, x: y + m.norm2(m.other(x))  # noqa: E731
    check(block(both, **parts), {"last.weight"}, EXACT)
    # As if independent. Here both read the same noise, so they are not, quite.
    check(block(lambda m, y, x: F.relu(both(m, y, x)), **parts), {"last.weight"}, 0.2)


def test_concatenation():
    parts = {"other": conv(6, 4, 1), "norm2": nn.BatchNorm2d(4), "last": conv(12, 4, 1)}
    check(block(lambda m, y, x: F.relu(torch.cat([y, m.norm2(m.other(x))], 1)), **parts), {"last.weight"}, NEARLY_NORMAL)


def test_flattened_into_a_dense_layer():
    parts = {"last": nn.Linear(8 * 64, 4)}
    check(block(lambda m, y, x: F.relu(y).flatten(1), **parts), {"last.weight"}, 0.3)  # of 256 samples each


def test_a_chain_with_depthwise_layers_is_known_but_for_its_input():
    module = nn.Sequential(
        conv(6, 8, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU6(), conv(8, 8, 3, groups=8, bias=False), nn.BatchNorm2d(8), nn.ReLU6(),
        conv(8, 6, 1), nn.BatchNorm2d(6), nn.Flatten(), nn.Linear(216, 4), nn.BatchNorm1d(4), nn.Linear(4, 3),
    )  # fmt: skip
    # Nine clipped values, as a depthwise layer sums up, are not normal.
    check(module, {"3.weight", "6.weight", "9.weight", "11.weight"}, 0.5, shape=(512, 6, 8, 8))


def test_what_is_refused():
    source = classifier()
    wrong = {"first.weight": NormalStatistics(mean=np.zeros(3), std=np.zeros(3))}
    with pytest.raises(ModelError, match=r"statistics of first.weight have shapes \(3,\) and \(3,\), expected \(8,\)"):
        expected_inputs(prepare(source), wrong)
    with pytest.raises(ModelError, match="expected the deploy form"):
        expected_inputs(source, {})
