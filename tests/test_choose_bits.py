"""Layers that keep 8 bits: the most gained within the share, what the user says first."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tvm_rsq
from tests.integer_case import noise
from tests.tiny_networks import classifier
from tvm_rsq.calibration_set import CalibrationSet
from tvm_rsq.choose_bits import _chosen, gain
from tvm_rsq.errors import ConfigError
from tvm_rsq.planner import make_plan


def bits(**fields) -> dict[str, int]:
    plan = tvm_rsq.quantize(classifier(), tvm_rsq.QuantConfig(scheme="per_channel", **fields), calibration=noise(8, 3, 16, 16)).plan
    return {layer.name: layer.weight_bits for layer in plan.layers}


def sizes() -> dict[str, int]:
    return {name: classifier().params[name].size for name in bits()}


@pytest.mark.parametrize("share", [0.0, 0.2, 0.6, 1.0])
def test_the_layers_at_8_bits_are_within_the_share(share):
    found, weights = bits(weight_bits=4, eight_bit_share=share), sizes()
    assert set(found.values()) <= {4, 8}
    assert sum(weights[name] for name, own in found.items() if own == 8) <= share * sum(weights.values())
    assert (set(found.values()) == {8}) == (share == 1.0) and (set(found.values()) == {4}) == (share == 0.0)


def test_the_users_word_comes_first():
    assert bits(weight_bits=4, eight_bit_share=1.0, overrides={"second.weight": "weight_bits=6"})["second.weight"] == 6


def test_where_roundings_are_learned_the_smallest_layers_keep_8_bits():
    given, weights = noise(8, 3, 16, 16), sizes()
    rank = sorted(weights, key=lambda name: (weights[name], name))
    share = (weights[rank[0]] + weights[rank[1]]) / sum(weights.values())
    model = tvm_rsq.quantize(classifier(), tvm_rsq.QuantConfig(scheme="per_channel"), calibration=given).model
    config = tvm_rsq.QuantConfig(scheme="per_channel", weight_bits=4, eight_bit_share=share, rounding="adaround")
    found = {layer.name: layer for layer in make_plan(model, CalibrationSet(inputs=(given,)), config).layers}
    assert [name for name in rank if found[name].weight_bits == 8] == rank[:2]
    assert found[rank[0]].reason.endswith("; 8 bits, not 4: one of the smallest layers")


def test_a_network_of_8_bits_is_not_changed():
    assert set(bits(eight_bit_share=0.5).values()) == {8}


def test_the_plan_says_why():
    plan = tvm_rsq.quantize(classifier(), tvm_rsq.QuantConfig(weight_bits=4, eight_bit_share=1.0), calibration=noise(8, 3, 16, 16)).plan
    assert all("8 bits, not 4: " in layer.reason for layer in plan.layers)
    assert plan.provenance["eight_bit_share"] == 1.0


GAINS = st.lists(st.tuples(st.floats(0, 10), st.integers(1, 50)), min_size=1, max_size=8)


@given(GAINS, st.floats(0, 200))
def test_what_is_left_out_gains_less_for_its_size_or_does_not_fit(items, room):
    gains, own = {f"l{i}": value for i, (value, _) in enumerate(items)}, {f"l{i}": size for i, (_, size) in enumerate(items)}
    taken = _chosen(gains, own, room)
    assert sum(own[name] for name in taken) <= room
    for name in gains.keys() - taken.keys():
        better = sum(own[other] for other in taken if gains[other] / own[other] >= gains[name] / own[name])
        assert gains[name] == 0 or better + own[name] > room


def test_divergences_that_are_not_finite():
    assert gain(math.inf, 0.1) == math.inf and gain(math.inf, math.inf) == 0 and gain(0.1, 0.2) == 0


@pytest.mark.parametrize("share", [-0.1, 1.5, math.nan, "all"])
def test_a_share_is_from_0_to_1(share):
    with pytest.raises(ConfigError, match="eight_bit_share"):
        tvm_rsq.QuantConfig(eight_bit_share=share)
