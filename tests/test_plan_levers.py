"""Plans for a target, with made-up times: levers are used where they pay, within the budget, and the same every time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.integer_case import noise, seeded
from tests.integer_networks import Block, conv
from tvm_rsq import pipeline
from tvm_rsq.calibration_set import CalibrationSet
from tvm_rsq.config import QuantConfig
from tvm_rsq.errors import ConfigError
from tvm_rsq.frontend.load_model import load
from tvm_rsq.model import Model
from tvm_rsq.plan import QuantPlan
from tvm_rsq.plan_levers import exceeds
from tvm_rsq.planner import make_plan
from tvm_rsq.quantized_model import QuantizedModel
from tvm_rsq.targets.levers import Levers
from tvm_rsq.targets.workload import Conv2DWorkload
from tvm_rsq.timed_target import TimedTarget

DATA = CalibrationSet(inputs=(noise(6, 3, 9, 10),))
ALL = Levers(accumulate16=(1, 2))


def network() -> Model:
    """conv - residual block - conv, with 16 channels."""

    def forward(m, x):
        x = m.first(x).relu()
        x = (m.second(x) + x).relu()
        return m.head((m.third(x) + x).relu().mean((2, 3)))

    parts = {"first": conv(3, 16, 3, padding=1), "second": conv(16, 16, 3, padding=1), "third": conv(16, 16, 1)}
    module = Block(forward, **parts, head=torch.nn.Linear(16, 7))
    return load(seeded(module), (torch.from_numpy(noise(1, 3, 9, 10)),))


def cost(w: Conv2DWorkload) -> float:
    """Blocks and shifts pay, and shared residuals a little."""
    e = w.epilogue
    rate = {0: 1.0, 1: 0.7, 2: 0.5}[w.accumulate16]
    return w.macs * rate + w.out_height * w.out_width * w.out_channels * (
        {"float": 100, "shift": 60, "fixed_point": 400}[e.requantize] + 20 * (e.residual and not e.shared_residual) + 10 * e.per_channel
    )


def times_us(workloads: Sequence[Conv2DWorkload]) -> list[float]:
    return [cost(w) for w in workloads]


def plan_of(offered: Levers | None = ALL, **config) -> tuple[QuantizedModel, QuantPlan]:
    source = network()
    model, settings = pipeline.prepare(source), QuantConfig(**config)
    plan = make_plan(model, DATA, settings, timed=offered and TimedTarget(name="made up", levers=offered, cost=times_us))
    return QuantizedModel(source=source, model=model, plan=plan, calibration=DATA, config=settings), plan


def test_a_generous_budget_uses_every_lever_and_none_uses_none():
    found, plan = plan_of(budget=1e6)
    first, second, third, head = plan.layers
    assert [(layer.requantize, layer.accumulate16) for layer in (second, third)] == [("shift", 2), ("shift", 2)]
    assert first.requantize == "shift" and first.accumulate16 == 0, "three channels do not divide into blocks"
    assert head.requantize == "float", "what leaves in float is not requantized"
    assert plan.tensors[second.output].scale == plan.tensors[first.output].scale == plan.tensors[third.output].scale
    assert second.time_us < max(a.time_us for a in second.considered) and "saved" in second.reason
    assert found.annotated.module["main"].attrs["rsq.requantize"][second.name] == "shift"

    _, strict = plan_of(budget=0.0)
    assert sum(layer.time_us for layer in strict.layers) >= sum(layer.time_us for layer in plan.layers)
    frontier = plan.provenance["frontier"]
    assert all(a["time_us"] >= b["time_us"] for a, b in zip(frontier[:-1], frontier[1:], strict=True))
    assert frontier[0]["excess"] == 0 and plan.provenance["target"] == "made up"


def test_the_network_as_a_whole_is_beyond_the_budget_when_the_samples_agree_on_it():
    noise = np.random.default_rng(0).normal(0, 1e-3, 64)
    baseline = np.full(64, 1e-2)
    assert not exceeds(baseline + noise, baseline, 0.05)
    assert exceeds(baseline * 1.2 + noise, baseline, 0.05)
    assert exceeds(baseline * 1.06, baseline, 0.05) and not exceeds(baseline * 1.04, baseline, 0.05)
    few = np.where(np.arange(16) < 3, 1000.0, 1.0)  # too few for the standard error
    assert exceeds(few, np.ones(16), 0.05) and exceeds(np.array([1.0, 10.0]), np.ones(2), 0.05)
    assert exceeds(np.where(np.arange(16) == 7, np.nan, 1.0), np.ones(16), 0.05)
    assert exceeds(np.array([2.0]), np.array([1.0]), 0.5) and not exceeds(np.array([1.4]), np.array([1.0]), 0.5)


def test_equal_times_give_equal_plans_that_survive_json():
    texts = {plan_of(budget=0.3)[1].to_json() for _ in range(2)}
    assert len(texts) == 1
    plan = QuantPlan.from_json(texts.pop())
    assert plan == plan_of(budget=0.3)[1] and plan.layers[1].considered


@pytest.mark.parametrize("levers, allowed", [
    (("shift",), {("per_channel", "shift", 0), ("per_channel", "float", 0)}),
    (("accumulate16",), {("per_channel", "float", d) for d in (0, 1, 2)}),
    (("per_tensor",), {("per_tensor", "float", 0), ("per_channel", "float", 0)}),
])  # fmt: skip
def test_only_the_levers_that_were_asked_for(levers, allowed):
    _, plan = plan_of(budget=1e6, levers=levers)
    assert {(layer.scheme, layer.requantize, layer.accumulate16) for layer in plan.layers} <= allowed
    assert {(a.scheme, a.requantize, a.accumulate16) for layer in plan.layers for a in layer.considered} <= allowed


def test_without_a_target_or_with_no_levers_granularity_alone_is_decided():
    for offered, config in ((None, {}), (ALL, {"levers": "none"})):
        _, plan = plan_of(offered, **config)
        assert {(layer.requantize, layer.accumulate16, layer.time_us) for layer in plan.layers} == {("float", 0, None)}
        assert "frontier" not in plan.provenance


def test_overrides_decide():
    name = plan_of(None)[1].layers[2].name
    _, plan = plan_of(budget=1e6, overrides={name: "per_channel,requantize=float,accumulate16=1", "*": "weight_bits=7"})
    third = plan.layer(name)
    assert (third.scheme, third.requantize, third.accumulate16, third.weight_bits) == ("per_channel", "float", 1, 7)
    _, plan = plan_of(None, scheme="per_channel", overrides={"*": "requantize=shift,accumulate16=4"})
    assert [layer.requantize for layer in plan.layers] == ["shift", "float", "float", "float"]
    assert "residual has another scale" in plan.layers[1].reason and "3 channels" in plan.layers[0].reason
    assert [layer.accumulate16 for layer in plan.layers] == [0, 4, 4, 4]


def test_a_plan_that_cannot_be_kept_is_refused():
    found, plan = plan_of(None, scheme="per_channel")
    with pytest.raises(ConfigError, match="expected a multiple of 16"):
        broken = replace(plan, layers=(replace(plan.layers[0], accumulate16=4), *plan.layers[1:]))
        _ = replace(found, plan=broken).annotated
    with pytest.raises(ConfigError, match="requantize 'half'"):
        replace(plan.layers[0], requantize="half")
    with pytest.raises(ConfigError, match="left in float"):
        replace(plan.layers[0], scheme="float", requantize="shift")
    assert np.ndim(plan.layers[0].weight_scale) == 1
