"""The plan: overrides, scales that are shared, what it records, and that it is the same every time."""

from __future__ import annotations

import hashlib
import json
import math
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

import tvm_rsq
from tests import small_network
from tests.integer_case import noise
from tests.passes.annotated_case import quantized
from tests.passes.islands_network import model as islands_model
from tests.tiny_networks import classifier
from tvm_rsq import pipeline
from tvm_rsq.calibration_set import CalibrationSet
from tvm_rsq.config import LayerOverride, QuantConfig
from tvm_rsq.errors import ConfigError
from tvm_rsq.plan import QuantPlan
from tvm_rsq.planner import make_plan
from tvm_rsq.resolve_overrides import resolve_overrides

LAYERS = ["features.0.weight", "features.3.weight", "head[0].weight", "head0.weight", "Head.weight"]


def said(overrides):
    return {name: (o.scheme, o.weight_bits, o.activation_bits) for name, o in resolve_overrides(overrides, LAYERS).items()}


def test_a_name_or_a_glob():
    assert said({"features.0.weight": "float"}) == {"features.0.weight": ("float", None, None)}
    assert set(said({"features.*": "float"})) == {"features.0.weight", "features.3.weight"}
    assert set(said({"*": "per_tensor"})) == set(LAYERS)


def test_a_name_with_brackets_is_a_name_first():
    assert set(said({"head[0].weight": "float"})) == {"head[0].weight"}
    assert set(said({"head[0-9].weight": "float"})) == {"head0.weight"}


def test_case_matters():
    assert set(said({"head*": "float"})) == {"head[0].weight", "head0.weight"}


def test_later_overrides_fill_in_and_replace():
    found = said(
        {"*": "weight_bits=4,per_tensor", "features.*": LayerOverride(activation_bits=6), "features.3.*": "per_channel,weight_bits=8"}
    )
    assert found["features.3.weight"] == ("per_channel", 8, 6)
    assert found["features.0.weight"] == ("per_tensor", 4, 6) and found["Head.weight"] == ("per_tensor", 4, None)


def test_an_override_that_matches_nothing_is_refused_with_what_there_is():
    with pytest.raises(ConfigError, match=r"'features\.9\*' matches no layer; the layers are features\.0\.weight"):
        said({"features.9*": "float"})


def plan_of(network=0, **config):
    model = pipeline.prepare(classifier(seed=network))
    return make_plan(model, CalibrationSet(inputs=(noise(8, 3, 16, 16),)), QuantConfig(**config))


def test_overrides_decide_and_say_so():
    plan = plan_of(overrides={"first.weight": "float", "second.weight": "per_tensor,weight_bits=4,activation_bits=6"})
    first, second, dense = plan.layers
    assert (first.scheme, first.reason, first.weight_bits, first.weight_nmse) == ("float", "float by override", 32, None)
    assert (second.scheme, second.reason, second.weight_bits, len(second.weight_scale)) == ("per_tensor", "per_tensor by override", 4, 1)
    assert plan.tensors[second.output].bits == 6
    assert first.kl_per_tensor is None and second.kl_per_channel is None and dense.kl_per_tensor is not None


def test_what_moves_values_has_their_scale():
    plan = quantized(islands_model()).plan
    assert plan.tensors["image"] == plan.tensors["x"]
    assert plan.tensors["pooled"] == plan.tensors["positive"] == plan.tensors["joined"]
    assert plan.tensors["features"] != plan.tensors["pooled"]


def test_an_override_of_bits_holds_for_what_moves_the_values_too():
    plan = quantized(islands_model(), overrides={"w": "activation_bits=4"}).plan
    assert {name: quant.bits for name, quant in plan.tensors.items() if quant.bits != 8} == {"hidden": 4}


@pytest.mark.parametrize("scheme", ["per_tensor", "per_channel", "hybrid"])
def test_schemes(scheme):
    plan = plan_of(scheme=scheme)
    for layer, channels in zip(plan.layers, (8, 12, 8), strict=True):
        assert len(layer.weight_scale) == (1 if layer.scheme == "per_tensor" else channels) and min(layer.weight_scale) > 0
        assert (layer.kl_per_tensor is not None) == (scheme == "hybrid") and layer.scheme in (scheme, "per_tensor", "per_channel")
        assert 0 < layer.weight_nmse < 1e-3
    assert [layer.macs for layer in plan.layers] == [14 * 14 * 8 * 27, 7 * 7 * 12 * 72, 96]
    assert [layer.weight_bytes for layer in plan.layers] == [8 * 27, 12 * 72, 96]
    assert [layer.op for layer in plan.layers] == ["conv2d", "conv2d", "dense"]


def test_a_budget_of_nothing_is_per_channel_and_a_large_one_per_tensor():
    assert {layer.scheme for layer in plan_of(budget=1e9).layers} == {"per_tensor"}
    strict = {layer.name: layer for layer in plan_of(budget=0.0).layers}
    assert all(layer.scheme == "per_channel" or layer.kl_per_tensor <= layer.kl_per_channel for layer in strict.values())


def test_provenance():
    plan = plan_of(scheme="per_tensor", weight_bits=6, seed=3, range_method="percentile")
    assert plan.provenance["scheme"] == "per_tensor" and plan.provenance["weight_bits"] == 6 and plan.provenance["seed"] == 3
    assert plan.provenance["range_method"] == "percentile" and plan.provenance["calibration_source"] == "real"
    assert plan.provenance["calibration_samples"] == 8
    assert plan.network_hash == pipeline.prepare(classifier()).network_hash


def test_float_islands_are_named_with_the_reason():
    plan = small_network.quantized().plan
    assert [(island.op, island.reason) for island in plan.float_islands] == [("nn.softmax", "nn.softmax has no integer kernel")]


def test_json_round_trip(tmp_path):
    plan = plan_of()
    assert QuantPlan.from_json(plan.to_json()) == plan
    # Divergences can be infinite, and JSON has no such number.
    far = replace(plan, layers=(replace(plan.layers[0], kl_per_tensor=math.inf), *plan.layers[1:]))
    json.loads(far.to_json(), parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert QuantPlan.from_json(far.to_json()) == far
    plan.save(tmp_path / "plan.json")
    assert QuantPlan.load(tmp_path / "plan.json") == plan and os.listdir(tmp_path) == ["plan.json"]


def test_two_runs_and_two_processes_plan_the_same():
    texts = {plan_of().to_json() for _ in range(2)}
    assert len(texts) == 1
    code = "from tests.test_planner import plan_of; import hashlib; print(hashlib.sha256(plan_of().to_json().encode()).hexdigest())"
    other = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True, env={**os.environ, "PYTHONHASHSEED": "7"}
    )
    assert other.stdout.split()[-1] == hashlib.sha256(texts.pop().encode()).hexdigest()
    assert plan_of(network=1).to_json() != plan_of().to_json()


def test_every_weight_fits_its_grid():
    plan = plan_of(scheme="per_tensor")
    model = pipeline.prepare(classifier())
    for layer in plan.layers:
        weight = model.params[layer.name]
        assert np.abs(weight).max() / layer.weight_scale[0] <= 127.001


def test_a_layer_of_very_many_inputs_cannot_overflow_its_accumulator():
    layer = torch.nn.Linear(100_000, 2)
    with torch.no_grad():
        layer.weight.fill_(1e-3)
        layer.bias.fill_(3.0)
    ones = np.ones((1, 100_000), np.float32)
    quantized = tvm_rsq.quantize(
        torch.nn.Sequential(layer), QuantConfig(scheme="per_channel"), example_inputs=(torch.ones(1, 100_000),), calibration=ones
    )
    # With full-range weights the sum would be 255 * 127 * 100,000 > 2^31.
    np.testing.assert_allclose(quantized.compile().run(ones), quantized.simulate(ones), rtol=1e-5)
    np.testing.assert_allclose(quantized.compile().run(ones), [[103.0, 103.0]], rtol=0.01)


def test_overrides_are_checked_before_the_long_work():
    def never() -> bool:
        raise AssertionError("the synthesis began")

    with pytest.raises(ConfigError, match="matches no layer"):
        tvm_rsq.quantize(
            torch.nn.Sequential(torch.nn.Linear(4, 2)),
            QuantConfig(overrides={"nope*": "float"}),
            example_inputs=(torch.ones(1, 4),),
            should_stop=never,
        )
