"""Layers with their biases, their weights seen by channel, and which of them feed each other directly."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.integer_case import seeded
from tests.integer_networks import Block, conv
from tests.tiny_networks import classifier
from tvm_rsq.errors import ModelError
from tvm_rsq.frontend.load_model import load
from tvm_rsq.layer_links import biased_layers, layer_links
from tvm_rsq.model import Model
from tvm_rsq.pipeline import prepare


def deploy(module: nn.Module, *shape: int) -> Model:
    return prepare(load(seeded(module), (torch.zeros(shape),)))


def test_layers_and_links_of_a_chain():
    parts = [conv(3, 8, 3, padding=1), nn.ReLU(), conv(8, 8, 3, groups=8, bias=False), nn.ReLU6(), conv(8, 4, 1), conv(4, 6, 1), nn.Tanh()]
    model = deploy(nn.Sequential(*parts, conv(6, 5, 1), nn.Flatten(), nn.Linear(245, 3)), 1, 3, 9, 9)
    layers = biased_layers(model)
    assert list(layers) == ["0.weight", "2.weight", "4.weight", "5.weight", "7.weight", "9.weight"]
    assert [layer.bias for layer in layers.values()] == ["0.bias", None, "4.bias", "5.bias", "7.bias", "9.bias"]
    assert [layer.groups for layer in layers.values()] == [1, 8, 1, 1, 1, 1]
    assert [layer.padded for layer in layers.values()] == [True, False, False, False, False, False]
    assert [layer.dense for layer in layers.values()] == [False] * 5 + [True]
    links = [(link.first.name[0], link.second.name[0], link.low, link.high) for link in layer_links(model)]
    assert links == [("0", "2", 0, math.inf), ("2", "4", 0, 6), ("4", "5", -math.inf, math.inf)]
    assert [link.keeps_factors for link in layer_links(model)] == [True, False, True]


@pytest.mark.parametrize(
    "function",
    [
        lambda m, x: (lambda h: m.b(h) + h)(F.relu(m.a(x))),  # read twice
        lambda m, x: (lambda h: (m.b(F.relu(h)), h))(m.a(x)),  # an output of the network too
        lambda m, x: m.b(F.relu(m.a(x) + 3 * m.a(x))),  # a sum between
        lambda m, x: m.b(F.max_pool2d(m.a(x), 2)),  # something else between
    ],
)
def test_what_is_no_link(function):
    assert layer_links(deploy(Block(function, a=conv(3, 8, 1), b=conv(8, 8, 1)), 1, 3, 6, 6)) == ()


@pytest.mark.parametrize(
    ("module", "shape"),
    [
        (conv(4, 6, 3), (4, 3, 3)), (conv(4, 6, 3, groups=2), (4, 3, 3)), (conv(4, 8, 3, groups=4), (4, 3, 3)), (conv(4, 6, 1), (4, 1, 1)),
        (nn.Linear(4, 6), (4,)),
    ],
)  # fmt: skip
def test_weights_by_channel_are_what_the_layer_computes(module, shape):
    model = deploy(module, 1, *shape)
    (layer,) = biased_layers(model).values()
    weight = model.params[layer.name]
    values, outputs = np.random.default_rng(0).standard_normal((2, 8))
    x = torch.from_numpy(values[:4].reshape(4, *[1] * (len(shape) - 1)) * np.ones(shape)).float()[None]
    expected = (module(x) - module(0 * x)).detach().numpy().reshape(-1)
    np.testing.assert_allclose(layer.response(weight, values[:4]), expected, rtol=1e-4, atol=1e-5)
    count = len(expected)
    scaled = layer.scaled(weight, outputs[:count], np.ones(4))
    assert scaled.shape == weight.shape and scaled.dtype == np.float32
    np.testing.assert_allclose(layer.response(scaled, values[:4]), expected * outputs[:count], rtol=1e-4, atol=1e-5)
    scaled = layer.scaled(weight, np.ones(count), values[:4])
    np.testing.assert_allclose(layer.response(scaled, np.ones(4)), expected, rtol=1e-4, atol=1e-5)


def test_the_canonical_form_is_refused():
    for batch_norm in (True, False):
        with pytest.raises(ModelError, match="expected the deploy form; call pipeline.prepare first"):
            biased_layers(classifier(batch_norm=batch_norm))
