"""Weights that dwarf all others: what is scaled and by how much, the same function, rows that keep their levels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from tests.integer_networks import Block
from tvm_rsq.calibration_set import CalibrationSet
from tvm_rsq.equalize import equalize
from tvm_rsq.executor import Executor
from tvm_rsq.frontend.load_model import load
from tvm_rsq.outlying_inputs import outlying, room
from tvm_rsq.pipeline import prepare
from tvm_rsq.scaling_groups import scaling_groups

X = torch.randn(8, 3, 10, 10, generator=torch.Generator().manual_seed(0))
DATA = CalibrationSet(inputs=(X.numpy(),))


def behind_relu(dead: tuple[int, ...], activation: type[nn.Module] = nn.ReLU) -> nn.Module:
    """conv -> relu -> batch norm -> conv, where channels `dead` never fire and have hardly a deviation to divide by."""
    torch.manual_seed(2)
    first, norm, second = nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16, eps=1e-7), nn.Conv2d(16, 8, 3)
    with torch.no_grad():
        for channel in dead:
            first.bias[channel] = -20.0
            norm.running_var[channel] = 1e-5
    return Block(lambda m, x: m.c(m.n(m.r(m.a(x)))), a=first, r=activation(), n=norm, c=second).eval()


def deploy(module: nn.Module):
    return prepare(load(module, (X[:1],)))


def largest(weight: np.ndarray) -> np.ndarray:
    return np.abs(weight).max((0, 1, 2))


@pytest.mark.parametrize("method", ["activations", "outlying"])
def test_dead_channels_give_their_weights_up_and_nothing_else_changes(method):
    model = deploy(behind_relu((3, 11)))
    before = largest(model.params["c.weight"])
    assert before[3] > 100 * np.median(before)
    found = equalize(model, {}, DATA, method).model
    after = largest(found.params["c.weight"])
    assert after[[3, 11]].max() <= 4.01 * np.median(before)
    others = np.delete(np.arange(16), [3, 11])
    np.testing.assert_array_equal(found.params["c.weight"][..., others], model.params["c.weight"][..., others])
    (want,), (have,) = Executor(model).run([X]), Executor(found).run([X])
    np.testing.assert_allclose(have.numpy(), want.numpy(), atol=1e-5)


def test_a_channel_that_fires_is_scaled_as_far_as_it_has_room():
    model = deploy(behind_relu(()))
    params = dict(model.params)
    params["c.weight"] = params["c.weight"].copy()
    params["c.weight"][..., 5] *= 1000
    (group,) = scaling_groups(model)
    assert outlying(params, group)[5] > 50
    high = np.ones(16)
    high[5] = 0.25
    np.testing.assert_allclose(room([(np.zeros(16), high)])[5], 4.0)
    assert room([(np.zeros(16), high)])[0] == 1.0


def test_a_silent_channel_is_taken_to_reach_half_a_step():
    high = np.array([1.0, 0.0, 1e-6])
    np.testing.assert_allclose(room([(np.zeros(3), high)]), [1, 510, 510])


def test_the_tightest_of_several_tensors_counts():
    low, high = np.array([-1.0, 0.0]), np.array([1.0, 0.5])
    np.testing.assert_allclose(room([(np.zeros(2), np.array([1.0, 0.01])), (low, high)]), [1.0, 2.0])


def test_weights_that_differ_as_usual_and_groups_behind_relu6_are_left_alone():
    for module in (behind_relu(()), behind_relu((3,), nn.ReLU6)):
        model = deploy(module)
        assert equalize(model, {}, DATA, "outlying").model is model


def test_dense_layers_read_their_inputs_along_the_first_axis():
    torch.manual_seed(3)
    head = Block(lambda m, x: m.b(m.r(m.a(x)).mean((2, 3))), a=nn.Conv2d(3, 16, 3), r=nn.ReLU(), b=nn.Linear(16, 5)).eval()
    with torch.no_grad():
        head.a.bias[7], head.b.weight[:, 7] = -20.0, 90.0
    model = deploy(head)
    found = equalize(model, {}, DATA, "outlying").model
    name = next(name for name in model.params if name.startswith("b.weight"))
    assert np.abs(found.params[name][7]).max() < np.abs(model.params[name][7]).max() / 50
    (want,), (have,) = Executor(model).run([X]), Executor(found).run([X])
    np.testing.assert_allclose(have.numpy(), want.numpy(), atol=1e-5)
