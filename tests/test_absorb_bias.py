"""Absorption: high channels come down by the formula, the function stays where they are high, and what cannot take it is left alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.integer_case import seeded
from tests.integer_networks import Block, conv
from tvm_rsq.absorb_bias import absorb_bias
from tvm_rsq.errors import ModelError
from tvm_rsq.executor import Executor
from tvm_rsq.frontend.load_model import load
from tvm_rsq.layer_statistics import NormalStatistics
from tvm_rsq.model import Model
from tvm_rsq.pipeline import prepare

IMAGE = (4, 3, 9, 9)


def high(module: nn.Module, *layers: str) -> tuple[Model, dict[str, NormalStatistics]]:
    """(deploy form, statistics of the named layers, measured): their biases are raised by 0 to 30 deviations."""
    module = seeded(module)
    for name in layers:
        bias = module.get_submodule(name).bias
        bias.data += torch.linspace(0, 30, len(bias))
    model = prepare(load(module, (torch.zeros(IMAGE),)))
    tensors = Executor(model).trace([_images()])
    sums = {step.inputs[1]: step.name for step in Executor(model).steps if step.op == "relax.add"}
    measured = {}
    for name in layers:
        value = tensors[sums[f"{name}.bias"]].double().flatten(0, -2)
        measured[f"{name}.weight"] = NormalStatistics(mean=value.mean(0).numpy(), std=value.std(0).numpy())
    return model, measured


def _images() -> torch.Tensor:
    return torch.randn(IMAGE, generator=torch.Generator().manual_seed(3))


def _outputs(model: Model) -> torch.Tensor:
    return Executor(model, dtype=torch.float64).run([_images()])[0]


def test_high_channels_come_down_and_the_function_stays():
    module = nn.Sequential(conv(3, 8, 3), nn.ReLU(), conv(8, 8, 3, groups=8), nn.ReLU(), conv(8, 4, 1))
    model, statistics = high(module, "0", "2")
    found = absorb_bias(model, statistics)
    assert found.amounts.keys() == {"0.weight", "2.weight"}
    for name, known in statistics.items():
        np.testing.assert_allclose(found.amounts[name], np.maximum(known.mean - 3 * known.std, 0))
        assert (found.amounts[name] > 0).sum() >= 5 and found.amounts[name][0] == 0
    np.testing.assert_allclose(found.model.params["0.bias"], model.params["0.bias"] - found.amounts["0.weight"], rtol=1e-5, atol=1e-5)
    expected, got = _outputs(model), _outputs(found.model)
    # But for the rare values below c.
    assert float((got - expected).norm() / (expected - expected.mean()).norm()) < 0.02
    # What the third layer reads has become smaller.
    before, after = (Executor(each).trace([_images()])["relu_1"].max() for each in (model, found.model))
    assert after < before / 2
    for key in model.params:
        assert found.model.params[key].dtype == np.float32 and found.model.params[key].shape == model.params[key].shape


def test_into_a_dense_layer():
    model, statistics = high(nn.Sequential(nn.Flatten(), nn.Linear(243, 12), nn.ReLU(), nn.Linear(12, 5)), "1")
    found = absorb_bias(model, statistics)
    assert found.amounts.keys() == {"1.weight"}
    torch.testing.assert_close(_outputs(found.model), _outputs(model), rtol=0, atol=0.05)


def test_low_channels_are_left_alone():
    model, statistics = high(nn.Sequential(conv(3, 8, 3), nn.ReLU(), conv(8, 4, 1)), "0")
    low = {name: NormalStatistics(mean=known.mean, std=known.mean.max() + 0 * known.std) for name, known in statistics.items()}
    found = absorb_bias(model, low)
    assert found.amounts == {} and found.model.params == model.params


def test_padded_layers_take_biases_only_when_asked():
    model, statistics = high(nn.Sequential(conv(3, 8, 3), nn.ReLU(), conv(8, 4, 3, padding=1)), "0")
    assert absorb_bias(model, statistics).amounts == {}
    found = absorb_bias(model, statistics, padded=True)
    difference = (_outputs(found.model) - _outputs(model)).abs()
    # Inside, only the rare values below c differ; at the border, everything.
    assert difference[:, :, 1:-1, 1:-1].mean() < 0.1 and difference[:, :, 0].mean() > 1


@pytest.mark.parametrize(
    "module",
    [
        nn.Sequential(conv(3, 8, 3), nn.ReLU6(), conv(8, 4, 1)),
        nn.Sequential(conv(3, 8, 3), conv(8, 4, 1)),
        nn.Sequential(conv(3, 8, 3), nn.ReLU(), conv(8, 4, 1, bias=False)),
        nn.Sequential(conv(3, 8, 3), nn.ReLU(), nn.MaxPool2d(2), conv(8, 4, 1)),
    ],
)
def test_what_cannot_take_it(module):
    model, statistics = high(module, "0")
    assert absorb_bias(model, statistics).amounts == {}


def test_what_two_layers_read_stays():
    module = Block(lambda m, x: (lambda h: m.b(h) + m.c(h))(F.relu(m.a(x))), a=conv(3, 8, 3), b=conv(8, 4, 1), c=conv(8, 4, 1))
    assert absorb_bias(*high(module, "a")).amounts == {}


def test_layers_without_statistics_stay_and_foreign_ones_are_refused():
    model, statistics = high(nn.Sequential(conv(3, 8, 3), nn.ReLU(), conv(8, 4, 1)), "0")
    assert absorb_bias(model, {}).amounts == {}
    short = NormalStatistics(mean=statistics["0.weight"].mean[:4], std=statistics["0.weight"].std)
    with pytest.raises(ModelError, match=r"statistics of 0.weight have shapes \(4,\) and \(8,\), expected \(8,\)"):
        absorb_bias(model, {"0.weight": short})
