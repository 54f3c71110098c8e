"""Six deviations of every batch norm, within what activations let through, whatever the data."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import tvm_rsq
from tests.integer_networks import Block

X = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def ranges(function, scale: float = 1.0, **config) -> list[tuple[float, float]]:
    """Of the outputs of layers, in order, per tensor (low, high)."""
    torch.manual_seed(0)
    module = Block(function, a=nn.Conv2d(3, 4, 1), n=nn.BatchNorm2d(4), b=nn.Conv2d(4, 4, 1), m=nn.BatchNorm2d(4), c=nn.Conv2d(4, 2, 1))
    with torch.no_grad():
        for norm, shift in ((module.n, 1.0), (module.m, -1.0)):
            norm.weight.copy_(torch.tensor([1.0, 2.0, 0.5, 0.1]))
            norm.bias.fill_(shift)
    settings = tvm_rsq.QuantConfig(range_method="sigma", equalization="none", **config)
    plan = tvm_rsq.quantize(module.eval(), settings, example_inputs=(X[:1],), calibration=scale * X.numpy()).plan
    found = [plan.tensors[layer.output] for layer in plan.layers if layer.output in plan.tensors]
    return [(-q.zero_point * q.scale, (255 - q.zero_point) * q.scale) for q in found]


def test_ranges_are_six_deviations_within_the_activation():
    first, second = ranges(lambda m, x: m.c(nn.functional.relu6(m.m(m.b(torch.relu(m.n(m.a(x))))))))[:2]
    np.testing.assert_allclose(first, (0, 1 + 6 * 2), rtol=0.02)
    np.testing.assert_allclose(second, (0, 6), rtol=0.02)


def test_a_residual_adds_its_range():
    first, second = ranges(lambda m, x: m.c((y := torch.relu(m.n(m.a(x)))) + m.m(m.b(y))))[:2]
    np.testing.assert_allclose(second, (-1 - 12, -1 + 12 + first[1]), rtol=0.02)


def test_the_data_do_not_matter():
    network = lambda m, x: m.c(torch.relu(m.n(m.a(x))))  # noqa: E731
    assert ranges(network)[0] == ranges(network, scale=50.0)[0]


def test_without_batch_norms_it_is_refused():
    module = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 2, 1)).eval()
    with pytest.raises(tvm_rsq.ConfigError, match='range_method is "sigma", which needs batch norms'):
        tvm_rsq.quantize(module, tvm_rsq.QuantConfig(range_method="sigma"), example_inputs=(X[:1],), calibration=X.numpy())
