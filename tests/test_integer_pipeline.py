"""The whole integer path: whatever the network, its compiled library computes what the simulation says, bit for bit.

The simulation itself is held to the float network, within what 8 bits allow.
"""

from __future__ import annotations

import functools
import io

import numpy as np
import onnx
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from tests.integer_case import check, near_float, noise, quantized, same_unexposed, seeded
from tests.integer_networks import Block, conv, every_network, varied
from tvm_rsq import ConfigError, LayerOverride, QuantConfig
from tvm_rsq.compiler import compile_exposed
from tvm_rsq.targets.host import host_features
from tvm_rsq.targets.parse import parse_target

SHAPE = (1, 3, 12, 12)
EVERY = every_network()


@functools.cache
def network(name):
    """One of the networks, per channel at 8 bits."""
    return quantized(*EVERY[name])


@pytest.mark.parametrize("name", EVERY)
def test_every_stored_value_equals_the_simulation(name):
    found = network(name)
    near_float(found)
    check(found)


@pytest.mark.parametrize("name", ["image as deep as wide", "several outputs", "shared layer", "concat with the input"])
def test_the_library_without_exposed_tensors_computes_the_same(name):
    same_unexposed(network(name))


FLOAT_ISLANDS = {
    "operator: softmax": {"nn.softmax"},
    "operator: resize linear": {"image.resize2d"},
    "operator: adaptive pool, uneven": {"nn.adaptive_avg_pool2d"},
    "operator: padding with another value": {"nn.pad"},
    "half of a split leaves": {"split", "tuple_get_item"},
    "flattened into dense": set(),
    "one-dimensional": set(),
    "operator: squeeze and excite": set(),
}


@pytest.mark.parametrize("name", FLOAT_ISLANDS)
def test_the_plan_names_what_runs_in_float(name):
    islands = {island.op for island in network(name).plan.float_islands}
    assert islands - {"permute_dims"} == FLOAT_ISLANDS[name]  # the permutation of an image that is an output


@pytest.mark.parametrize("scheme, weight_bits, activation_bits", [
    ("per_tensor", 8, 8), ("per_channel", 6, 8), ("per_tensor", 4, 6), ("per_channel", 8, 4), ("per_channel", 4, 4),
])  # fmt: skip
def test_schemes_and_bits(scheme, weight_bits, activation_bits):
    found = quantized(varied(), [SHAPE], QuantConfig(scheme=scheme, weight_bits=weight_bits, activation_bits=activation_bits))
    assert {layer.scheme for layer in found.plan.layers} == {scheme}
    assert {quant.bits for name, quant in found.plan.tensors.items() if not name.startswith(("inputs", "permute_dims"))} >= {
        activation_bits
    }
    check(found)


def test_hybrid():
    found = quantized(varied(), [SHAPE], QuantConfig(scheme="hybrid", budget=0.02))
    assert all(layer.kl_per_tensor is not None for layer in found.plan.layers)
    near_float(found)
    check(found)


@pytest.mark.parametrize("method", ["percentile", "mse"])
def test_ranges_that_clip(method):
    check(quantized(varied(), [SHAPE], QuantConfig(scheme="per_channel", range_method=method)))


@pytest.mark.parametrize("overrides", [
    {"stem.weight": "float"},
    {"last.weight": "float", "*": "per_tensor"},
    {"narrow.weight": "float", "deep.weight": "float"},
    {"*": "float", "grouped.weight": "per_tensor"},
    {"*": "weight_bits=4", "hidden.weight": "per_tensor,weight_bits=8,activation_bits=4", "wide.weight": "activation_bits=6"},
])  # fmt: skip
def test_overrides(overrides):
    check(quantized(varied(), [SHAPE], QuantConfig(scheme="per_channel", overrides=overrides)))


def test_batches_of_images():
    check(quantized(varied(), [(3, *SHAPE[1:])]))


def test_dead_channels_zero_weights_and_huge_biases():
    module = varied()
    with torch.no_grad():
        module.stem.weight[2] = 0
        module.stem.bias[2] = -5  # behind the ReLU6 this channel is always 0
        module.stem.bias[3] = 1e4
        module.stem.weight[4] *= 1e-9
        module.stem.bias[4] = 0.75
        module.left.weight.zero_()
        module.deep.weight[5:7] = 0
        module.up.weight.zero_()
        module.up.bias.fill_(3)
    for scheme in ("per_tensor", "per_channel"):
        found = quantized(module, [SHAPE], QuantConfig(scheme=scheme))
        check(found)
        near_float(found, 0.08 if scheme == "per_channel" else 0.5)


def test_a_network_of_zeros_is_exact():
    module = varied()
    with torch.no_grad():
        for value in module.parameters():
            value.zero_()
    found = quantized(module, [SHAPE])
    (logits,) = check(found)
    assert not logits.any()


def test_values_beyond_every_range_saturate():
    found = quantized(varied(), [SHAPE])
    check(found, gains=[1e6, 1e30])


@pytest.mark.parametrize(("low", "high"), [(4.0, 6.0), (-6.0, -4.0), (-0.1, 0.2)])
def test_a_clip_to_where_its_input_never_is(low, high):
    """Its result has a range of its own, unless it lies between the input and zero."""
    parts = {"a": nn.Conv2d(3, 8, 3), "b": nn.Conv2d(8, 5, 1)}
    made = seeded(Block(lambda m, x: m.b(nn.functional.max_pool2d(m.a(x), 2).clamp(low, high)), **parts))
    found = quantized(made, [(1, 3, 12, 12)])
    near_float(found)
    check(found)
    (clip,) = (name for name in found.plan.tensors if name.startswith("clip"))
    (pool,) = (name for name in found.plan.tensors if name.startswith("max_pool2d"))
    assert (found.plan.tensors[clip].scale == found.plan.tensors[pool].scale) == (low < 0 < high)


def test_an_infinite_input_saturates_as_the_simulation_says():
    found = quantized(varied(), [SHAPE])
    image = noise(*SHAPE)
    image[0, 0, 3, 4], image[0, 1, 7, 7] = np.inf, -np.inf
    *_, expected = [found.simulate(image)]
    np.testing.assert_allclose(compile_exposed(found).run(image)[0], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["sum of two convolutions", "one-dimensional", "operator: hardswish", "operator: max pool with ceil"])
def test_networks_from_onnx(name, tmp_path):
    module, shapes = EVERY[name]
    buffer = io.BytesIO()
    torch.onnx.export(module, tuple(torch.from_numpy(noise(*shape)) for shape in shapes), buffer, dynamo=False, opset_version=17)
    found = quantized(onnx.load_from_string(buffer.getvalue()), shapes)
    near_float(found)
    check(found)


def test_every_target_gives_the_same_bits():
    found = quantized(varied(), [SHAPE])
    image = noise(*SHAPE, seed=5)
    targets = ["llvm", "llvm -mcpu=haswell", "llvm -mcpu=x86-64"]
    specs = [parse_target(name) for name in targets]
    if not all(set(spec.features) <= host_features() and not spec.is_cross for spec in specs):
        pytest.skip("this machine does not run code for haswell")
    reference, *others = [compile_exposed(found, spec).run(image) for spec in specs]
    assert {spec.form for spec in specs} == {"fma", "f64"}, "both forms of the requantization are compared"
    for results in others:
        for ours, theirs in zip(reference, results, strict=True):
            np.testing.assert_array_equal(ours, theirs)


LAYERS = st.lists(
    st.tuples(
        st.sampled_from([1, 2, 3, 5, 8, 13, 16, 24]), st.sampled_from([1, 2, 3, 5]),
        st.integers(1, 2), st.integers(0, 2), st.integers(1, 2),
        st.sampled_from(["none", "relu", "relu6", "silu", "residual", "depthwise", "grouped"]),
    ), min_size=1, max_size=3,
)  # fmt: skip


@settings(max_examples=8, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(layers=LAYERS, batch=st.integers(1, 2), channels=st.integers(1, 5), bits=st.sampled_from([(8, 8), (6, 6), (4, 8), (8, 4)]),
       scheme=st.sampled_from(["per_tensor", "per_channel"]))  # fmt: skip
def test_any_stack_of_convolutions(layers, batch, channels, bits, scheme):
    height = width = 13
    parts: list[nn.Module] = []
    for out, kernel, stride, padding, dilation, kind in layers:
        groups = channels if kind == "depthwise" else 2 if kind == "grouped" and channels % 2 == 0 else 1
        out = out if groups == 1 else out * groups
        reach = dilation * (kernel - 1) + 1
        padding = min(padding, kernel // 2) if reach <= height else dilation * (kernel - 1)
        layer = conv(channels, out, kernel, stride=stride, padding=padding, dilation=dilation, groups=groups)
        if kind == "residual":
            layer = Block(
                lambda m, x: m.a(x) + m.b(x), a=layer, b=conv(channels, out, kernel, stride=stride, padding=padding, dilation=dilation)
            )
        parts += [layer, {"relu": nn.ReLU(), "relu6": nn.ReLU6(), "silu": nn.SiLU()}.get(kind, nn.Identity())]
        channels, height = out, (height + 2 * padding - reach) // stride + 1
    parts.append(conv(channels, 3, 1))
    image = (batch, parts[0].a.in_channels if isinstance(parts[0], Block) else parts[0].in_channels, width, width)
    check(quantized(seeded(nn.Sequential(*parts)), [image], QuantConfig(scheme=scheme, weight_bits=bits[0], activation_bits=bits[1])))


def test_an_override_that_matches_nothing_is_refused():
    with pytest.raises(ConfigError, match="matches no layer"):
        quantized(varied(), [SHAPE], QuantConfig(overrides={"nowhere": LayerOverride(scheme="float")}))
