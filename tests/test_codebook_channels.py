"""Codebooks of a few output channels each: in the plan, after every rounding, in the file, and in what the library computes."""

from __future__ import annotations

import functools
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import tvm_rsq
from tests.integer_case import check, imported, noise, quantized, seeded
from tests.integer_networks import Block
from tvm_rsq.errors import ConfigError
from tvm_rsq.layer_workloads import layer_workloads
from tvm_rsq.model import Model
from tvm_rsq.plan import QuantPlan
from tvm_rsq.targets.parse import parse_target

SHAPE = (2, 3, 12, 12)


def module() -> nn.Module:
    """Odd numbers of channels, grouped, joined and depthwise convolutions, and a dense layer."""
    parts = {
        "a": nn.Conv2d(3, 17, 3, padding=1), "b": nn.Conv2d(17, 17, 3, padding=1, groups=17), "c": nn.Conv2d(17, 22, 1, stride=2),
        "d": nn.Conv2d(22, 22, 3, padding=1, groups=2), "e": nn.Conv2d(22, 22, 3, groups=11), "f": nn.Linear(22, 13),
    }  # fmt: skip

    def forward(m, x):
        x = torch.relu(m.b(torch.relu(m.a(x))))
        x = torch.relu(m.e(torch.relu(m.d(torch.relu(m.c(x))))))
        return m.f(x.mean((2, 3)))

    return seeded(Block(forward, **parts))


@functools.cache
def network() -> Model:
    return imported(module(), [SHAPE])


KEPT: dict[str, tvm_rsq.QuantizedModel] = {}


def made(**fields) -> tvm_rsq.QuantizedModel:
    """The network under these fields, made once."""
    common = {"weight_bits": 4, "scheme": "per_channel", "eight_bit_share": 0.0, "overrides": {"*": "grid=codebook"}}
    key = str(sorted(fields.items()))
    if key not in KEPT:
        KEPT[key] = quantized(network(), [SHAPE], tvm_rsq.QuantConfig(**{**common, **fields}))
    return KEPT[key]


def test_every_few_channels_have_a_book_and_depthwise_layers_one():
    found = made(codebook_channels=5)
    assert [len(layer.codebook) for layer in found.plan.layers] == [4, 1, 5, 5, 5, 3]
    assert found.plan.provenance["codebook_channels"] == 5
    assert QuantPlan.from_json(found.plan.to_json()) == found.plan
    for layer in found.plan.layers:
        weight, size = found.annotated.params[layer.name], -(-len(layer.weight_scale) // len(layer.codebook))
        rows = weight.T if layer.op == "dense" else weight
        for channel, row in enumerate(rows):
            assert set(np.unique(row).tolist()) <= set(layer.codebook[channel // size]), layer.name


def test_more_books_lessen_the_error_and_bytes_are_those_of_codes():
    whole, few = made(), made(codebook_channels=4)
    for one, several in zip(whole.plan.layers, few.plan.layers, strict=True):
        assert several.weight_nmse < one.weight_nmse or len(several.codebook) == 1
        assert several.weight_bytes == one.weight_bytes == -(-found_size(whole, one.name) * 4 // 8)


def found_size(found: tvm_rsq.QuantizedModel, name: str) -> int:
    return found.model.params[name].size


@pytest.mark.parametrize("target", ["llvm", "haswell"])
@pytest.mark.parametrize(("bits", "channels"), [(3, 4), (4, 1), (6, 7)])
def test_the_library_computes_what_was_decided(target, bits, channels):
    check(made(weight_bits=bits, codebook_channels=channels), target)


@pytest.mark.parametrize("rounding", ["nearest", "squant", "feedback", "adaround"])
def test_every_rounding_ends_at_entries_of_the_channels_own_book(rounding):
    found = made(codebook_channels=6, rounding=rounding)
    for layer in found.plan.layers:
        axis, weight = 1 if layer.op == "dense" else 0, found.adjusted[layer.name]
        np.testing.assert_array_equal(layer.grid.real(layer.grid.integers(weight, axis), axis), weight)
    check(found)


def test_per_tensor_scales_and_powers_of_two_have_several_books_too():
    tensor = made(codebook_channels=6, scheme="per_tensor")
    assert all(len(layer.weight_scale) == 1 for layer in tensor.plan.layers) and len(tensor.plan.layers[0].codebook) == 3
    check(tensor)
    shift = made(codebook_channels=6, overrides={"*": "grid=codebook", "c.weight": "requantize=shift"})
    layer = shift.plan.layer("c.weight")
    assert layer.requantize == "shift" and len(layer.codebook) == 4
    check(shift)


@pytest.mark.parametrize("channels", [None, 64])
def test_the_file_holds_codes_and_no_weight(channels):
    """Also of a layer that waits for memory, whose kernel would look codes of one book up itself."""
    torch.manual_seed(0)
    dense = nn.Sequential(nn.Linear(1536, 1024), nn.ReLU(), nn.Linear(1024, 64)).eval()
    config = tvm_rsq.QuantConfig(
        scheme="per_channel", weight_bits=4, eight_bit_share=0.0, overrides={"*": "grid=codebook"}, codebook_channels=channels
    )
    found = tvm_rsq.quantize(dense, config, example_inputs=(torch.zeros(1, 1536),), calibration=noise(8, 1536))
    built = found.compile("llvm")
    first = built.contents.calls[1]
    assert first.layer == found.plan.layers[0].name and first.kernel.endswith("_codes4") == (channels is None)
    for name, workload in layer_workloads(found.model, found.plan).items():
        plain = parse_target("llvm").library.conv2d(replace(workload, code_bits=0))
        packed = plain.pack_weight(found.annotated.params[name].T.reshape(workload.out_channels, 1, 1, -1)).tobytes()
        assert packed[:64] not in built.contents.library
    assert len(built.contents.library) < 1.15 * sum(layer.weight_bytes for layer in found.plan.layers)
    x = noise(1, 1536, seed=5)
    np.testing.assert_allclose(built.run(x), found.simulate(x), rtol=1e-5, atol=1e-5)


def test_no_effect_is_said_and_no_number_of_channels_is_refused():
    notes = made(overrides={}, codebook_channels=8).plan.notes
    assert "codebook_channels 8 has no effect: no layer has several codebooks" in notes
    assert not any("codebook_channels" in note for note in made(codebook_channels=8).plan.notes)
    for wrong in (0, -1, 2.0, True, "4"):
        with pytest.raises(ConfigError, match="codebook_channels is .*, expected a whole number of at least 1"):
            tvm_rsq.QuantConfig(codebook_channels=wrong)


def test_a_network_of_zeros_is_exact():
    zeros = module()
    with torch.no_grad():
        for value in zeros.parameters():
            value.zero_()
    config = tvm_rsq.QuantConfig(
        weight_bits=4, scheme="per_channel", eight_bit_share=0.0, overrides={"*": "grid=codebook"}, codebook_channels=3
    )
    (logits,) = check(quantized(zeros, [SHAPE], config))
    assert not logits.any()
