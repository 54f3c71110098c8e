"""Scaling groups and activation equalization: the same float function, channels that fill their ranges, refusals by structure."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from tests.integer_networks import Block
from tvm_rsq.calibration_set import CalibrationSet
from tvm_rsq.equalize_activations import channel_extremes, equalize_activations
from tvm_rsq.executor import Executor
from tvm_rsq.frontend.load_model import load
from tvm_rsq.layer_statistics import NormalStatistics
from tvm_rsq.passes.dataflow import Dataflow
from tvm_rsq.passes.find_islands import find_islands
from tvm_rsq.pipeline import prepare
from tvm_rsq.scaling_groups import scaling_groups

X = torch.randn(16, 3, 12, 12, generator=torch.Generator().manual_seed(0))


def uneven(conv: nn.Conv2d) -> nn.Conv2d:
    """Output channels of very different ranges."""
    with torch.no_grad():
        spread = torch.logspace(-1.5, 0, conv.out_channels)
        conv.weight *= spread.reshape(-1, 1, 1, 1)
        conv.bias *= spread
    return conv


def bottleneck(activation: nn.Module) -> nn.Module:
    """expand -> depthwise -> project, twice, the second with a residual; a linear head."""
    torch.manual_seed(1)
    parts = {
        "a": uneven(nn.Conv2d(3, 8, 1)), "b": uneven(nn.Conv2d(8, 8, 3, padding=1, groups=8)), "c": uneven(nn.Conv2d(8, 6, 1)),
        "d": uneven(nn.Conv2d(6, 12, 1)), "e": nn.Conv2d(12, 12, 3, padding=1, groups=12), "f": uneven(nn.Conv2d(12, 6, 1)),
        "g": nn.Conv2d(6, 4, 1),
    }  # fmt: skip

    def forward(m, x):
        y = m.c(activation(m.b(activation(m.a(x)))))
        y = y + m.f(activation(m.e(activation(m.d(y)))))
        return m.g(y)

    return Block(forward, **parts).eval()


def deploy(module: nn.Module):
    return prepare(load(module, (X[:1],)))


def data() -> CalibrationSet:
    return CalibrationSet(inputs=(X.numpy(),))


def stored(model) -> tuple[str, ...]:
    return find_islands(Dataflow(model.module), ()).quantized


def test_groups_of_an_inverted_residual():
    groups = {group.producers: group for group in scaling_groups(deploy(bottleneck(nn.ReLU6())))}
    assert set(groups) == {("a.weight",), ("b.weight",), ("c.weight", "f.weight"), ("d.weight",), ("e.weight",)}
    assert groups["a.weight",].depthwise and not groups["a.weight",].linear and groups["a.weight",].ceiling == 6
    chain = groups["c.weight", "f.weight"]
    assert chain.linear and set(chain.consumers) == {"d.weight", "g.weight"} and len(chain.biases) == 2


@pytest.mark.parametrize("activation", [nn.ReLU(), nn.ReLU6(), nn.LeakyReLU(0.1)])
def test_the_float_function_stays_and_ranges_are_used(activation):
    model = deploy(bottleneck(activation))
    found = equalize_activations(model, data(), stored(model))
    (before,), (after,) = (Executor(m).run([X]) for m in (model, found.model))
    np.testing.assert_allclose(after.numpy(), before.numpy(), atol=2e-5)
    assert found.factors.keys() == {"a.weight", "c.weight", "d.weight", "f.weight"}
    names = {group.members[-1] for group in scaling_groups(model) if group.depthwise or group.linear} & set(stored(model))
    assert names
    for name in names:
        # The range of the median of the channels that are not always 0, as a part of the widest one's.
        median = []
        for m in (model, found.model):
            low, high = channel_extremes(Executor(m), data(), {name})[name]
            width = (high - low)[high > low]
            median.append(float(np.median(width) / width.max()))
        assert median[1] > 1.3 * median[0]


def test_statistics_follow_their_layers():
    model = deploy(bottleneck(nn.ReLU()))
    found = equalize_activations(model, data(), stored(model))
    ones = {name: NormalStatistics(mean=np.ones(8), std=np.ones(8)) for name in ("a.weight", "b.weight")}
    scaled = found.statistics(ones)
    np.testing.assert_array_equal(scaled["a.weight"].mean, found.factors["a.weight"])
    assert scaled["b.weight"] is ones["b.weight"]


def test_what_a_scale_cannot_pass_is_left_alone():
    """A sigmoid, a product, a concatenation, and what the network gives out."""
    torch.manual_seed(0)
    parts = {"a": uneven(nn.Conv2d(3, 8, 1)), "b": nn.Conv2d(8, 8, 3, padding=1, groups=8), "c": nn.Conv2d(16, 8, 1)}
    for function in (
        lambda m, x: m.b(torch.sigmoid(m.a(x))),
        lambda m, x: m.b((y := m.a(x)) * torch.sigmoid(y)),
        lambda m, x: m.c(torch.cat([(y := m.a(x)), m.b(y)], 1)),
        lambda m, x: (m.b(y := m.a(x)), y),
    ):
        model = deploy(Block(function, **parts).eval())
        assert equalize_activations(model, data(), stored(model)).model is model


def test_the_given_model_is_untouched():
    model = deploy(bottleneck(nn.ReLU6()))
    before = {name: value.copy() for name, value in model.params.items()}
    equalize_activations(model, data(), stored(model))
    assert all(np.array_equal(before[name], value) for name, value in model.params.items())
