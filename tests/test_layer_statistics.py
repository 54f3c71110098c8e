"""Statistics of layers' outputs: they are what the deploy form's layers compute of data that has the batch norms' statistics."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from tvm import relax
from tvm.relax import op as R

from tests.integer_networks import Block, conv
from tests.tiny_networks import build, classifier
from tests.trained_network import trained
from tvm_rsq.executor import Executor
from tvm_rsq.frontend.load_model import load
from tvm_rsq.layer_statistics import NormalStatistics, batch_norm_of_layers
from tvm_rsq.passes.dataflow import Dataflow
from tvm_rsq.pipeline import prepare


def check(module: nn.Module, x: torch.Tensor, expected: set[str]) -> None:
    """Of the noise, every listed layer's output has the statistics that are listed."""
    source = load(module, (x[:1],))
    found = batch_norm_of_layers(source)
    deploy = prepare(source)
    view, tensors = Dataflow(deploy.module), Executor(deploy, dtype=torch.float64).trace([x])
    layers = {layer.name: layer.binding for layer in Executor(deploy).layers}
    assert found.keys() & layers.keys() == expected
    for name in expected:
        out = view.sole_user(layers[name])  # every layer has a bias
        value = tensors[out].numpy()
        axes = tuple(range(value.ndim - 1))
        # The running variance is the unbiased one, from the first layer on.
        np.testing.assert_allclose(value.mean(axes), found[name].mean, atol=0.01)
        np.testing.assert_allclose(value.std(axes), found[name].std, rtol=0.01, atol=1e-4)


def test_layers_before_batch_norms_of_every_kind():
    module = nn.Sequential(
        conv(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
        conv(8, 8, 3, groups=8), nn.BatchNorm2d(8), nn.ReLU6(),
        conv(8, 6, 1), nn.Flatten(), nn.Linear(6 * 25, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 4),
    )  # fmt: skip
    check(*trained(module, 64, 3, 9, 9), {"0.weight", "3.weight", "8.weight"})


def test_two_batch_norms_behind_one_another_are_the_last_one():
    check(*trained(nn.Sequential(conv(3, 8, 3), nn.BatchNorm2d(8), nn.BatchNorm2d(8, affine=False)), 64, 3, 9, 9), {"0.weight"})


def test_one_dimensional_layers():
    check(*trained(nn.Sequential(nn.Conv1d(3, 8, 3), nn.BatchNorm1d(8), nn.ReLU()), 64, 3, 32), {"0.weight"})


def test_a_batch_norm_of_its_own_is_called_by_gamma():
    module = Block(lambda m, x: m.b(F.relu(m.norm(F.max_pool2d(m.a(x), 2)))), a=conv(3, 8, 3), norm=nn.BatchNorm2d(8), b=conv(8, 4, 1))
    check(*trained(module, 64, 3, 10, 10), {"norm.weight"})


def test_a_layer_that_something_else_reads_too_is_not_listed():
    module = Block(lambda m, x: (lambda h: m.norm(h) + h)(m.a(x)), a=conv(3, 8, 3), norm=nn.BatchNorm2d(8))
    check(*trained(module, 64, 3, 9, 9), {"norm.weight"})


def test_uses_of_one_layer_are_told_apart():
    module = Block(lambda m, x: m.norm2(m.a(F.relu(m.norm1(m.a(x))))), a=conv(3, 3, 3), norm1=nn.BatchNorm2d(3), norm2=nn.BatchNorm2d(3))
    check(*trained(module, 64, 3, 9, 9), {"a.weight", "a.weight.1"})


def test_layers_that_share_a_weight_cannot_take_a_batch_norm():
    params = {"w": np.ones((3, 3, 1, 1), np.float32)}
    params |= {f"bn.{part}": np.full(3, i + 1, np.float32) for i, part in enumerate(("gamma", "beta", "mean", "var"))}

    def body(emit, x, p):
        normal = emit(R.nn.batch_norm(emit(R.nn.conv2d(x, p["w"])), *list(p.values())[1:], axis=1, training=False))
        return R.nn.conv2d(emit(relax.TupleGetItem(normal, 0)), p["w"])

    source = build(body, [(1, 3, 4, 4)], params)
    assert batch_norm_of_layers(source).keys() == {"bn.gamma"}
    assert [layer.name for layer in Executor(prepare(source)).layers] == ["w", "bn.gamma", "w"]


def test_products_and_sums_that_follow_belong_to_it():
    module = Block(lambda m, x: m.norm(m.a(x)) * m.scale + m.shift, a=conv(3, 4, 3), norm=nn.BatchNorm2d(4))
    module.scale = nn.Parameter(torch.tensor([-2.0, 0.5, 0.0, 3.0]).reshape(4, 1, 1))
    module.shift = nn.Parameter(torch.tensor([1.0, 0.0, -1.0, 0.5]).reshape(4, 1, 1))
    check(*trained(module, 64, 3, 9, 9), {"a.weight"})


def test_products_and_sums_with_constants_do_not():
    check(*trained(Block(lambda m, x: 2 * m.norm(m.a(x)) + 1, a=conv(3, 4, 3), norm=nn.BatchNorm2d(4)), 64, 3, 9, 9), {"a.weight"})


def test_a_constant_product_before_it_keeps_it_apart():
    check(*trained(Block(lambda m, x: m.norm(2 * m.a(x)), a=conv(3, 4, 3), norm=nn.BatchNorm2d(4)), 64, 3, 9, 9), {"norm.weight"})


def test_a_constant_sum_before_it_does_not():
    check(*trained(Block(lambda m, x: m.norm(m.a(x) + 1), a=conv(3, 4, 3), norm=nn.BatchNorm2d(4)), 64, 3, 9, 9), {"a.weight"})


def test_a_channel_that_never_varied_is_constant():
    model = classifier()
    model.params["bn1.var"][0] = 0
    found = batch_norm_of_layers(model)
    assert found.keys() == {"first.weight", "second.weight"}
    assert found["first.weight"].std[0] == 0 and (found["first.weight"].std[1:] > 0).all()
    np.testing.assert_array_equal(found["first.weight"].mean, model.params["bn1.beta"].astype(np.float64))


def test_a_network_without_batch_norm_has_none():
    assert batch_norm_of_layers(classifier(batch_norm=False)) == {}


def test_scaled_and_shifted():
    found = NormalStatistics(mean=np.array([1.0, 2.0]), std=np.array([0.5, 3.0]))
    found = found.scaled(np.array([2.0, -1.0])).shifted(np.array([0.0, 5.0]))
    assert found.mean.tolist() == [2, 3] and found.std.tolist() == [1, 3]


def test_every_layer_of_a_real_network_is_found_by_its_name(real_network):
    network = real_network("mobilenetv2")
    source = load(network.model, network.example_inputs)
    found, deploy = batch_norm_of_layers(source), prepare(source)
    layers = {layer.name: layer for layer in Executor(deploy).layers}
    assert list(found) == [name for name in layers if name != "classifier.1.weight"] and len(found) == 52
    for name, statistics in found.items():
        assert statistics.mean.shape == statistics.std.shape == (deploy.params[name].shape[layers[name].axis],)
