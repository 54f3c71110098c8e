"""Equalization: the function stays, the ranges of linked channels become equal, and what is no link is not touched."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from tvm.ir import assert_structural_equal

from tests.integer_case import seeded
from tests.integer_networks import Block, conv
from tests.tiny_networks import classifier
from tvm_rsq.equalize_weights import equalize_weights
from tvm_rsq.errors import ConfigError, ModelError
from tvm_rsq.executor import Executor
from tvm_rsq.frontend.load_model import load
from tvm_rsq.layer_links import layer_links
from tvm_rsq.model import Model
from tvm_rsq.pipeline import prepare

IMAGE = (2, 3, 9, 9)


def deploy(module: nn.Module, shape: tuple[int, ...] = IMAGE, *, spread: float = 3.0) -> Model:
    """Its deploy form, every layer's channels scaled by up to e^spread, up or down."""
    generator = torch.Generator().manual_seed(7)
    for part in seeded(module).modules():
        if isinstance(part, nn.Conv2d | nn.Linear):
            factor = torch.exp(spread * (2 * torch.rand(len(part.weight), generator=generator) - 1))
            part.weight.data *= factor.reshape(-1, *[1] * (part.weight.ndim - 1))
    return prepare(load(module, (torch.zeros(shape),)))


def same_function(model: Model, other: Model, shape: tuple[int, ...] = IMAGE) -> None:
    """In float64, so that only the weights' rounding to float32 is left: 2^-24 a weight and layer, summed over a window."""
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    expected, got = (Executor(each, dtype=torch.float64).run([x])[0] for each in (model, other))
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max()))


def imbalance(model: Model) -> float:
    """The largest |log(r1 / r2)| of a channel of any link through which factors pass."""
    worst = 0.0
    for link in layer_links(model):
        if link.keeps_factors:
            first, second = (np.abs(layer.matrix(model.params[layer.name])) for layer in (link.first, link.second))
            r1, r2 = first.max(axis=(2, 3)).reshape(-1), second.max(axis=(1, 2)).reshape(-1)
            alive = (r1 > 0) & (r2 > 0)
            worst = max(worst, float(np.abs(np.log(r1[alive] / r2[alive])).max()))
    return worst


NETWORKS = {
    "inverted residuals": lambda: nn.Sequential(
        conv(3, 8, 3, padding=1), nn.ReLU(), conv(8, 8, 3, padding=1, groups=8), nn.ReLU(), conv(8, 4, 1),
        conv(4, 12, 1), nn.ReLU(), conv(12, 12, 3, stride=2, groups=12), nn.ReLU(), conv(12, 5, 1)),
    "grouped and multiplied": lambda: nn.Sequential(
        conv(3, 8, 3), nn.ReLU(), conv(8, 16, 3, groups=8), nn.ReLU(), conv(16, 12, 1, groups=4), nn.ReLU(), conv(12, 6, 3, groups=2)),
    "without biases": lambda: nn.Sequential(conv(3, 8, 3, bias=False), nn.ReLU(), conv(8, 4, 1, bias=False), conv(4, 4, 1)),
    "dense": lambda: nn.Sequential(nn.Flatten(), nn.Linear(243, 20), nn.ReLU(), nn.Linear(20, 12), nn.Linear(12, 5)),
    "residuals": lambda: Block(
        lambda m, x: (lambda h: m.last(F.relu(m.b(F.relu(m.a(h))) + h)))(F.relu(m.first(x))),
        first=conv(3, 8, 3), a=conv(8, 16, 1), b=conv(16, 8, 3, padding=1), last=conv(8, 4, 1)),
}  # fmt: skip
LINKS = {"inverted residuals": 5, "grouped and multiplied": 3, "without biases": 2, "dense": 2, "residuals": 1}


@pytest.mark.parametrize("name", NETWORKS)
def test_ranges_become_equal_and_the_function_stays(name):
    model = deploy(NETWORKS[name]())
    before = {key: value.copy() for key, value in model.params.items()}
    assert len(layer_links(model)) == LINKS[name] and imbalance(model) > 1
    found = equalize_weights(model)
    assert imbalance(found.model) < 3e-4
    same_function(model, found.model)
    assert_structural_equal(found.model.module, model.module)
    for key, value in before.items():
        np.testing.assert_array_equal(model.params[key], value)
        assert found.model.params[key].dtype == np.float32 and found.model.params[key].shape == value.shape


def test_one_link_is_the_formula():
    model = deploy(nn.Sequential(conv(3, 8, 3), nn.ReLU(), conv(8, 4, 1)))
    first, second = model.params["0.weight"], model.params["2.weight"]
    r1, r2 = np.abs(first).max(axis=(1, 2, 3)), np.abs(second).max(axis=(0, 1, 2))
    s = np.sqrt(r1 * r2) / r2
    found = equalize_weights(model)
    np.testing.assert_allclose(found.factors["0.weight"], 1 / s, rtol=1e-6)
    np.testing.assert_allclose(found.model.params["0.weight"], first / s[:, None, None, None], rtol=1e-6)
    np.testing.assert_allclose(found.model.params["2.weight"], second * s, rtol=1e-6)
    np.testing.assert_allclose(found.model.params["0.bias"], model.params["0.bias"] / s, rtol=1e-6)
    assert found.factors.keys() == {"0.weight"}


def test_outputs_of_layers_are_multiplied_by_their_factors():
    model = deploy(NETWORKS["inverted residuals"]())
    found = equalize_weights(model)
    x = torch.randn(IMAGE, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    before, after = (Executor(each, dtype=torch.float64).trace([x]) for each in (model, found.model))
    for link in layer_links(model):
        factor = torch.from_numpy(found.factors[link.first.name])
        expected = before[link.first.output] * factor
        torch.testing.assert_close(after[link.first.output], expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max()))


def test_residuals_and_what_two_layers_read_stay():
    model = deploy(NETWORKS["residuals"]())
    found = equalize_weights(model)
    assert found.factors.keys() == {"a.weight"}
    for key in ("first.weight", "first.bias", "b.bias", "last.weight", "last.bias"):
        np.testing.assert_array_equal(found.model.params[key], model.params[key])


def test_zero_channels_keep_their_factors():
    module = seeded(nn.Sequential(conv(3, 8, 3), nn.ReLU(), conv(8, 4, 1)))
    module[0].weight.data[2], module[2].weight.data[:, 5] = 0, 0
    model = prepare(load(module, (torch.zeros(IMAGE),)))
    found = equalize_weights(model)
    assert found.factors["0.weight"][2] == found.factors["0.weight"][5] == 1 and (found.factors["0.weight"] != 1).sum() == 6
    same_function(model, found.model)


def _relu6() -> Model:
    return deploy(nn.Sequential(conv(3, 8, 3), nn.ReLU6(), conv(8, 8, 3, groups=8), nn.ReLU(), conv(8, 4, 1)), spread=2.0)


def test_relu6_keeps_links_apart():
    found = equalize_weights(_relu6())
    assert found.factors.keys() == {"2.weight"}
    same_function(_relu6(), found.model)


def test_relu6_becomes_relu_when_asked():
    model = _relu6()
    text = model.module.script()
    found = equalize_weights(model, relu6="relu")
    assert found.factors.keys() == {"0.weight", "2.weight"} and imbalance(found.model) < 3e-4
    assert [step.op for step in Executor(found.model).steps].count("relax.nn.relu") == 2
    assert model.module.script() == text and list(found.model.params) == list(model.params)
    with_relu = prepare(load(seeded(nn.Sequential(conv(3, 8, 3), nn.ReLU(), conv(8, 8, 3, groups=8), nn.ReLU(), conv(8, 4, 1))),
                             (torch.zeros(IMAGE),)))  # fmt: skip
    same_function(Model(module=with_relu.module, params=model.params, inputs=model.inputs), found.model)


def test_a_network_without_links_comes_back_as_it_is():
    model = deploy(nn.Sequential(conv(3, 8, 3), nn.Tanh(), conv(8, 4, 1)))
    found = equalize_weights(model)
    assert found.factors == {} and found.model.params == model.params


def test_what_is_refused():
    with pytest.raises(ConfigError, match='relu6=\'clip\', expected "keep" or "relu"'):
        equalize_weights(_relu6(), relu6="clip")
    for batch_norm in (True, False):
        with pytest.raises(ModelError, match="expected the deploy form; call pipeline.prepare first"):
            equalize_weights(classifier(batch_norm=batch_norm))
