"""Whole networks in every arithmetic that a plan may name: the kernels give the simulation's integers."""

from __future__ import annotations

import functools
from dataclasses import replace

import numpy as np
import pytest

from tests.integer_case import check, imported, near_float, quantized
from tests.integer_networks import Block, conv, seeded
from tvm_rsq import QuantConfig
from tvm_rsq.layer_record import LayerPlan
from tvm_rsq.model import Model
from tvm_rsq.passes.dataflow import Dataflow
from tvm_rsq.planner import make_plan
from tvm_rsq.quantized_model import QuantizedModel
from tvm_rsq.shared_scales import Chain, share_scale

SHAPE = (1, 3, 9, 10)


def forward(m, x):
    x = m.first(x).relu()
    x = (m.second(m.deep(x)) + x).clamp(max=3)
    return m.last(m.third(x) + x)


@functools.cache
def source() -> Model:
    """Convolutions, a depthwise one, and two residual sums, 16 channels."""
    parts = {
        "first": conv(3, 16, 3, padding=1), "deep": conv(16, 16, 3, padding=1, groups=16), "second": conv(16, 16, 3, padding=1),
        "third": conv(16, 16, 1), "last": conv(16, 5, 1),
    }  # fmt: skip
    return imported(seeded(Block(forward, **parts)), [SHAPE])


def network(*, shared: bool = False, **config: object) -> QuantizedModel:
    """shared: one scale for all that the sums connect."""
    found = quantized(source(), [SHAPE], QuantConfig(**{"scheme": "per_channel", **config}))
    if not shared:
        return found
    first, _, second, third, _ = found.plan.layers
    chain = Chain(tensors=(first.output, second.output, third.output), layers=(second.name, third.name))
    tensors = share_scale(found.plan.tensors, chain)
    assert len({tensors[name].zero_point for name in chain.tensors}) > 1, "zero points differ where scales are shared"
    return replace(found, plan=replace(found.plan, tensors=tensors))


def to_shift(found: QuantizedModel, d: int = 0) -> QuantizedModel:
    """Every layer that is requantized by a shift, on the plan's own tensors."""
    config = found.config.replace(overrides={"*": f"requantize=shift,accumulate16={d}"})
    fitted = make_plan(found.model, found.calibration, config)
    assert fitted.tensors.keys() == found.plan.tensors.keys()
    return replace(found, plan=fitted)


@pytest.mark.parametrize("scheme", ["per_tensor", "per_channel"])
def test_floating_point_over_a_shared_scale(scheme):
    found = network(scheme=scheme, shared=True)
    check(found)
    near_float(found)


@pytest.mark.parametrize("scheme, shared", [("per_tensor", True), ("per_channel", False)])
def test_fixed_point(scheme, shared):
    found = network(scheme=scheme, requantize="fixed_point", shared=shared)
    assert [layer.requantize for layer in found.plan.layers] == ["fixed_point"] * 4 + ["float"]
    check(found)
    near_float(found)


@pytest.mark.parametrize("scheme, bits", [("per_tensor", 8), ("per_channel", 4)])
def test_shifts(scheme, bits):
    found = to_shift(network(scheme=scheme, activation_bits=bits))
    assert [layer.requantize for layer in found.plan.layers] == ["shift", "shift", "float", "float", "float"]
    check(found, gains=(1.3, 30.0))
    near_float(found, 0.1 if bits == 8 else 0.6)


@pytest.mark.parametrize("scheme", ["per_tensor", "per_channel"])
def test_shifts_over_residuals(scheme):
    """The scales of a plan with a shared chain, by hand: what plan_levers does with times."""
    found = network(scheme=scheme, shared=True)
    layers = tuple(shifted(found, layer) for layer in found.plan.layers)
    found = replace(found, plan=replace(found.plan, layers=layers))
    assert [layer.requantize for layer in found.plan.layers] == ["shift"] * 4 + ["float"]
    check(found)
    near_float(found, 0.1)


def shifted(found: QuantizedModel, layer: LayerPlan) -> LayerPlan:
    view = Dataflow(found.model.module)
    source = next(view.operand(n.name, 0) for n in view.nodes.values() if n.op == "nn.conv2d" and view.operand(n.name, 1) == layer.name)
    if layer.output not in found.plan.tensors:
        return layer
    unit = found.plan.tensors[layer.output].scale / found.plan.tensors[source].scale
    powers = np.ceil(np.log2(np.array(layer.weight_scale) / unit))
    return replace(layer, requantize="shift", weight_scale=tuple(float(np.float32(unit * 2.0**p)) for p in powers))


@pytest.mark.parametrize("d", [1, 2, 4])
def test_sums_in_sixteen_bits(d):
    found = network(overrides={"second.weight": f"accumulate16={d}", "third.weight": f"per_tensor,accumulate16={d}"})
    assert [layer.accumulate16 for layer in found.plan.layers] == [0, 0, d, d, 0]
    check(found, gains=(1.3, 1e6))
    near_float(found)
