"""Sensitivities against running the whole network again, and the choice of schemes as a property."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_networks import build, classifier
from tvm.relax import op as R

from tvm_rsq import sensitivity
from tvm_rsq.calibration import calibrate
from tvm_rsq.calibration_set import CalibrationSet
from tvm_rsq.choose_schemes import allowance, choose, excess
from tvm_rsq.divergence import Divergence
from tvm_rsq.errors import ConfigError
from tvm_rsq.executor import Executor
from tvm_rsq.sensitivity import LayerSensitivity, affordable
from tvm_rsq.uniform import fake_quantize, fake_quantize_weight, weight_scale


def _data(count: int = 5) -> CalibrationSet:
    return CalibrationSet(inputs=(np.random.default_rng(0).standard_normal((count, 3, 16, 16)).astype(np.float32),))


def measure(model, data, activations, *, weight_bits=8, bits_of_layer=None, layers=None, **options) -> tuple[LayerSensitivity, ...]:
    """Every layer per tensor and per channel, at min-max scales."""
    trials = {}
    for layer in Executor(model).layers:
        if layers is None or layer.name in layers:
            bits, weight = (bits_of_layer or {}).get(layer.name, weight_bits), model.params[layer.name]
            trials[layer.name] = [
                lambda w=weight, axis=axis, bits=bits: fake_quantize_weight(w, weight_scale(w, axis, bits), axis, bits)
                for axis in (None, layer.axis)
            ]
    found = sensitivity.measure(model, data, activations, trials, **options)
    return tuple(LayerSensitivity(name, *values) for name, values in found.items())


def _naive(model, data, activations, layer: str, axis: int | None, bits: int) -> float:
    """Run everything again with this layer's input and weight quantized; KL with numpy."""
    executor = Executor(model)
    found = next(known for known in executor.layers if known.name == layer)
    weight = model.params[layer]
    weight = fake_quantize_weight(weight, weight_scale(weight, axis, bits), axis, bits)

    def before(step, read):
        if step.name != found.binding:
            return read
        return [torch.from_numpy(fake_quantize(read[0].numpy(), activations[found.input])), torch.from_numpy(weight)]

    inputs = [torch.from_numpy(data.inputs[0])]
    p, q = (_log_softmax(executor.run(inputs, before=hook)[0].numpy()) for hook in (None, before))
    return float((np.exp(p) * (p - q)).sum(1).mean())


def _log_softmax(x: np.ndarray) -> np.ndarray:
    x = x.astype(np.float64)
    x -= x.max(1, keepdims=True)
    return x - np.log(np.exp(x).sum(1, keepdims=True))


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("chunk_bytes", [1, 10**9])
def test_each_layer_alone_equals_the_naive_way(bits, chunk_bytes):
    model, data = classifier(), _data()
    activations = calibrate(model, data).quantize(bits)
    found = measure(model, data, activations, weight_bits=bits, chunk_bytes=chunk_bytes)
    assert [s.layer for s in found] == ["first.weight", "second.weight", "dense.weight"]
    for layer, axis in zip(found, (0, 0, 1), strict=True):
        assert layer.per_tensor == pytest.approx(_naive(model, data, activations, layer.layer, None, bits), rel=1e-2, abs=1e-9)
        assert layer.per_channel == pytest.approx(_naive(model, data, activations, layer.layer, axis, bits), rel=1e-2, abs=1e-9)
        assert layer.per_tensor > 0


def test_a_softmax_at_the_end_makes_no_difference():
    data = _data()
    logits, probabilities = classifier(), classifier(softmax=True)
    activations = calibrate(logits, data).quantize(4)
    plain, with_softmax = (measure(model, data, activations, weight_bits=4) for model in (logits, probabilities))
    for a, b in zip(plain, with_softmax, strict=True):
        assert (b.per_tensor, b.per_channel) == pytest.approx((a.per_tensor, a.per_channel), rel=1e-3)


def test_bits_by_layer_subsets_and_progress():
    model, data, events = classifier(), _data(), []
    activations = calibrate(model, data).quantize(8)
    eight = {s.layer: s for s in measure(model, data, activations)}
    mixed = {s.layer: s for s in measure(model, data, activations, bits_of_layer={"second.weight": 4})}
    assert mixed["first.weight"] == eight["first.weight"]
    assert mixed["second.weight"].per_channel > 10 * eight["second.weight"].per_channel
    (only,) = measure(model, data, activations, layers=["dense.weight"], progress=events.append)
    assert only == eight["dense.weight"]
    assert [(e.stage, e.done, e.total, e.detail) for e in events] == [("sensitivity", 1, 1, "dense.weight")]
    with pytest.raises(ConfigError, match="nothing"):
        sensitivity.measure(model, data, activations, {"nothing": []})


def test_a_channel_that_dwarfs_the_others_wants_per_channel():
    model, data = classifier(), _data()
    model.params["second.weight"][0] *= 200
    model.params["bn2.var"][0] *= 200**2
    found = {s.layer: s for s in measure(model, data, {}, weight_bits=8)}
    assert found["second.weight"].per_tensor > 50 * found["second.weight"].per_channel
    schemes = choose(list(found.values()), 1e-3)
    assert schemes["second.weight"][0] == "per_channel" and schemes["dense.weight"][0] == "per_tensor"


def test_images_as_outputs_are_compared_by_squared_error():
    rng = np.random.default_rng(0)
    params = {"w": rng.standard_normal((4, 3, 3, 3)).astype(np.float32)}
    model = build(lambda emit, x, p: emit(R.nn.conv2d(x, p["w"])), [(1, 3, 16, 16)], params)
    data = _data()
    (found,) = measure(model, data, {}, weight_bits=4)
    executor, inputs = Executor(model), [torch.from_numpy(data.inputs[0])]
    w = params["w"]
    weight = torch.from_numpy(fake_quantize_weight(w, weight_scale(w, None, 4), None, 4))
    y, other = executor.run(inputs)[0].double(), executor.run(inputs, params={"w": weight})[0].double()
    assert found.per_tensor == pytest.approx(float((y - other).square().mean() / (2 * y.var(correction=0))), rel=1e-3)


def test_outputs_that_overflow_are_infinitely_far():
    divergence = Divergence(Executor(classifier()))
    reference = divergence.prepare([torch.zeros(2, 8)])
    other = torch.zeros(2, 8)
    other[1, 3] = math.nan
    assert divergence.of(reference, [other]).tolist() == [0, math.inf]


SENSITIVITY = st.tuples(st.floats(0, 10, allow_nan=False), st.floats(0, 10, allow_nan=False))
FOUND = st.lists(SENSITIVITY, max_size=8).map(lambda items: [LayerSensitivity(f"layer{i}", *item) for i, item in enumerate(items)])


def _per_tensor(found, budget: float) -> set[str]:
    return {layer for layer, (scheme, _) in choose(found, budget).items() if scheme == "per_tensor"}


@given(FOUND, st.floats(0, 20), st.floats(0, 20))
def test_a_larger_budget_never_takes_per_tensor_away(found, a, b):
    small, large = sorted((a, b))
    assert _per_tensor(found, small) <= _per_tensor(found, large)


@given(FOUND, st.floats(0, 20), st.randoms())
def test_the_budget_holds_is_used_up_and_ignores_the_order(found, budget, random):
    chosen = _per_tensor(found, budget)
    spent = math.fsum(excess(s) for s in found if s.layer in chosen)
    assert spent <= budget * (1 + 1e-9)
    left = [excess(s) for s in found if s.layer not in chosen]
    assert not left or spent + min(left) > budget * (1 - 1e-9)
    assert all(excess(s) > 0 for s in found if s.layer not in chosen)
    shuffled = list(found)
    random.shuffle(shuffled)
    assert _per_tensor(shuffled, budget) == chosen


def test_the_allowance_is_a_fraction_of_what_per_channel_costs():
    found = [LayerSensitivity("a", 5.0, 0.5), LayerSensitivity("b", 1.0, 1.5), LayerSensitivity("c", math.inf, math.inf)]
    assert allowance(found, 0.05) == pytest.approx(0.1)
    assert allowance([LayerSensitivity("a", 0.0, 0.0)], 1.0) > 0
    with pytest.raises(ConfigError, match="fraction"):
        allowance(found, -0.1)


def test_a_layer_that_costs_much_is_no_licence_for_the_others():
    found = [LayerSensitivity(name, 1.0, 0.1) for name in "abc"]
    assert allowance([*found, LayerSensitivity("d", 9.0, 5.0)], 1.0) == pytest.approx(0.3 + 0.4)


def test_a_coarser_weight_is_no_better_because_a_few_images_say_so():
    lucky = LayerSensitivity("a", 0.1, 0.2, error_ratio=3.0)
    assert excess(lucky) == pytest.approx(0.4)
    assert excess(LayerSensitivity("a", 1.0, 0.2, error_ratio=3.0)) == pytest.approx(0.8)
    assert excess(LayerSensitivity("a", 0.1, 0.2, error_ratio=0.9)) == 0
    assert excess(LayerSensitivity("a", 0.1, math.inf, error_ratio=0.0)) == math.inf
    assert choose([lucky], 0.3)["a"][0] == "per_channel"


@pytest.mark.parametrize("scheme", ["per_tensor", "per_channel"])
def test_forced_schemes(scheme):
    found = [LayerSensitivity("a", 5.0, 0.0), LayerSensitivity("b", 0.0, 0.0)]
    assert {s for s, _ in choose(found, 0.01, scheme=scheme).values()} == {scheme}


def test_infinite_divergence_never_fits_and_bad_budgets_are_refused():
    found = [LayerSensitivity("a", math.inf, 0.0), LayerSensitivity("b", math.inf, math.inf), LayerSensitivity("c", 0.1, 0.2)]
    schemes = choose(found, math.inf)
    assert [schemes[name][0] for name in "abc"] == ["per_channel", "per_channel", "per_tensor"]
    for budget in (-1.0, math.nan):
        with pytest.raises(ConfigError, match="budget"):
            choose(found, budget)
    with pytest.raises(ConfigError, match="scheme"):
        choose(found, 1.0, scheme="mixed")


def test_large_networks_are_judged_on_some_samples():
    data = CalibrationSet(inputs=(np.arange(40, dtype=np.float32).reshape(20, 2), np.zeros((20, 1), np.float32)))
    assert affordable(data, 300_000_000) is data
    fewer = affordable(data, 1_500_000_000)
    assert [len(array) for array in fewer.inputs] == [10, 10] and fewer.inputs[0][[0, 9], 0].tolist() == [0, 38]
    assert len(affordable(data, 10**12)) == 8 and len(affordable(fewer, 0)) == 10
