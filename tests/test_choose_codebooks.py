"""Codebooks in the plan: where they are, what the user says first, what is rounded to them, and the library that computes with them."""

from __future__ import annotations

import functools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import tvm_rsq
from tests.integer_case import check, imported, near_float, noise, quantized, seeded
from tests.integer_networks import Block
from tvm_rsq.choose_codebooks import _worse
from tvm_rsq.errors import ConfigError
from tvm_rsq.model import Model
from tvm_rsq.plan import QuantPlan

SHAPE = (2, 3, 12, 12)
FOUR = {"weight_bits": 4, "scheme": "per_channel", "eight_bit_share": 0.0}


@functools.cache
def network() -> Model:
    """Convolutions, grouped and depthwise ones, and a dense layer."""
    parts = {
        "a": nn.Conv2d(3, 16, 3, padding=1), "b": nn.Conv2d(16, 16, 3, padding=1, groups=16), "c": nn.Conv2d(16, 24, 1),
        "d": nn.Conv2d(24, 24, 3, padding=1, groups=4), "e": nn.Linear(24, 10),
    }  # fmt: skip

    def forward(m, x):
        x = torch.relu(m.b(torch.relu(m.a(x))))
        return m.e(torch.relu(m.d(torch.relu(m.c(x)))).mean((2, 3)))

    return imported(seeded(Block(forward, **parts)), [SHAPE])


KEPT: dict[str, tvm_rsq.QuantizedModel] = {}


def made(**fields) -> tvm_rsq.QuantizedModel:
    """The network under FOUR and these fields, made once."""
    key = str(sorted(fields.items()))
    if key not in KEPT:
        KEPT[key] = quantized(network(), [SHAPE], tvm_rsq.QuantConfig(**{**FOUR, **fields}))
    return KEPT[key]


@pytest.mark.parametrize("bits", [3, 4, 6])
@pytest.mark.parametrize("scheme", ["per_channel", "per_tensor"])
def test_the_library_computes_what_was_decided(bits, scheme):
    found = made(nonuniform=True, weight_bits=bits, scheme=scheme)
    books = [layer.codebook for layer in found.plan.layers if layer.codebook]
    assert len(books) >= 3 and {len(book) for each in books for book in each} == {2**bits}
    check(found, "llvm" if scheme == "per_channel" else "haswell")
    near_float(found, {3: 0.6, 4: 0.3, 6: 0.1}[bits])


def test_every_weight_is_an_entry_of_its_codebook():
    found = made(nonuniform=True)
    for layer in found.plan.layers:
        weight = found.annotated.params[layer.name]
        assert weight.dtype == np.int8
        allowed = set(layer.codebook[0]) if layer.codebook else set(range(-7, 8))
        assert set(np.unique(weight).tolist()) <= allowed, layer.name


def test_codebooks_lessen_the_error_of_weights_and_the_plan_says_why():
    plain, found = made(), made(nonuniform=True)
    for before, after in zip(plain.plan.layers, found.plan.layers, strict=True):
        if after.codebook:
            assert after.weight_nmse < before.weight_nmse
            assert "codebook: " in after.reason and "nats, uniform" in after.reason
        assert after.weight_bytes == before.weight_bytes
    assert found.plan.provenance["nonuniform"] is True
    assert QuantPlan.from_json(found.plan.to_json()) == found.plan


@pytest.mark.parametrize("rounding", ["nearest", "squant", "feedback", "adaround"])
def test_every_rounding_ends_at_entries(rounding):
    found = made(nonuniform=True, rounding=rounding)
    for layer in (layer for layer in found.plan.layers if layer.codebook):
        grid, axis = layer.grid, found.model.params[layer.name].ndim - 1 if layer.op == "dense" else 0
        weight = found.adjusted[layer.name]
        np.testing.assert_array_equal(grid.real(grid.integers(weight, axis), axis), weight)
    check(found)


def test_powers_of_two_have_codebooks_too():
    found = made(nonuniform=True, overrides={"c.weight": "requantize=shift", "a.weight": "requantize=shift"})
    layers = {layer.name: layer for layer in found.plan.layers}
    assert layers["c.weight"].requantize == "shift" and layers["c.weight"].codebook
    check(found)


def test_the_users_word_comes_first():
    found = made(nonuniform=True, overrides={"a.weight": "grid=uniform", "c.weight": "weight_bits=8"})
    assert [bool(layer.codebook) for layer in found.plan.layers if layer.name in ("a.weight", "c.weight")] == [False, False]
    found = made(overrides={"a.weight": "grid=codebook,weight_bits=6"})
    layers = {layer.name: layer for layer in found.plan.layers}
    assert len(layers["a.weight"].codebook[0]) == 64 and "codebook by override" in layers["a.weight"].reason
    assert not any(layer.codebook for layer in found.plan.layers if layer.name != "a.weight")


def test_layers_that_keep_8_bits_have_none():
    found = made(nonuniform=True, eight_bit_share=0.4)
    kept = [layer for layer in found.plan.layers if layer.weight_bits == 8]
    assert kept and not any(layer.codebook for layer in kept)
    check(found)


def test_the_error_of_outputs_gives_other_codebooks():
    weight, output = made(nonuniform=True), made(nonuniform=True, codebook_error="output")
    assert [layer.codebook for layer in weight.plan.layers] != [layer.codebook for layer in output.plan.layers]
    check(output)


def test_what_cannot_have_a_codebook_is_refused_in_a_line():
    with pytest.raises(ConfigError, match="nonuniform=True with weight_bits=8, and codebooks are of 3, 4 or 6 bits"):
        tvm_rsq.QuantConfig(nonuniform=True)
    with pytest.raises(ConfigError, match="codebook_error is 'weights', expected weight or output"):
        tvm_rsq.QuantConfig(codebook_error="weights")
    with pytest.raises(ConfigError, match="layer a.weight is to have a codebook of 8 bits, expected 3, 4 or 6"):
        made(weight_bits=8, overrides={"a.weight": "grid=codebook"})
    with pytest.raises(ConfigError, match="a codebook of 8 bits"):
        tvm_rsq.QuantConfig(overrides={"a": "grid=codebook,weight_bits=8"})
    with pytest.raises(ConfigError, match="exclude each other"):
        tvm_rsq.QuantConfig(overrides={"a": "grid=codebook,accumulate16=1"})


def test_a_codebook_that_is_clearly_worse_is_not_taken():
    assert not _worse(0.010, 0.014, 0.001) and _worse(0.010, 0.016, 0.001)
    assert not _worse(1e-5, 9e-4, 1e-3), "next to nothing either way"
    assert _worse(0.01, math.inf, 0.001) and _worse(0.01, math.nan, 0.001)
    assert not _worse(math.inf, 0.01, 0.001) and _worse(math.inf, math.inf, 0.001)


def test_the_same_seed_gives_the_same_plan():
    again = quantized(network(), [SHAPE], tvm_rsq.QuantConfig(**FOUR, nonuniform=True))
    assert again.plan.to_json() == made(nonuniform=True).plan.to_json()


def test_hybrid_with_a_target_keeps_its_codebooks(tmp_path, monkeypatch):
    monkeypatch.setenv("TVM_RSQ_TIMINGS", str(tmp_path / "t.jsonl"))
    config = tvm_rsq.QuantConfig(**{**FOUR, "scheme": "hybrid"}, nonuniform=True)
    example = (torch.from_numpy(noise(2, 3, 12, 12)),)
    found = tvm_rsq.quantize(network(), config, target="llvm", example_inputs=example, calibration=noise(8, 3, 12, 12, seed=3))
    assert sum(bool(layer.codebook) for layer in found.plan.layers) >= 3
    check(found)


def test_a_codebook_that_was_asked_for_is_kept_whatever_the_share():
    found = made(eight_bit_share=1.0, overrides={"c.weight": "grid=codebook"})
    assert {layer.name: (layer.weight_bits, bool(layer.codebook)) for layer in found.plan.layers}["c.weight"] == (4, True)


def test_a_later_override_takes_a_codebook_back():
    found = made(overrides={"*": "grid=codebook", "e.weight": "weight_bits=8"})
    assert [bool(layer.codebook) for layer in found.plan.layers] == [True, True, True, True, False]


def test_a_layer_whose_sums_might_overflow_gets_none():
    torch.manual_seed(0)
    wide = nn.Sequential(nn.Linear(40_000, 4), nn.ReLU(), nn.Linear(4, 3)).eval()
    found = quantized(wide, [(1, 40_000)], tvm_rsq.QuantConfig(**FOUR, overrides={"*": "grid=codebook"}))
    first, second = found.plan.layers
    assert not first.codebook and "too many inputs for a codebook" in first.reason and second.codebook


@pytest.mark.parametrize("book", [(0, 0, *range(1, 15)), tuple(range(1, 17)), tuple(range(8)), (*range(15), 128)])
def test_odd_codebooks_are_refused(book):
    layer = next(layer for layer in made(nonuniform=True).plan.layers if layer.codebook)
    assert replace(layer, codebook=((*range(-3, 9), 8, 8, 8, 8),)).grid.levels(24).shape == (1, 16)
    expected = "expected 16 ascending whole numbers from -127 to 127, one of them 0, and only the last repeated"
    with pytest.raises(ConfigError, match=expected):
        replace(layer, codebook=(book,))
