"""Reconstruction: it lowers the error it is made to lower, keeps what it promises of the weights, and can be stopped."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from tvm.relax import op as R

from tests.tiny_networks import build
from tvm_rsq import pipeline
from tvm_rsq.calibration_set import CalibrationSet
from tvm_rsq.config import QuantConfig
from tvm_rsq.errors import ConfigError
from tvm_rsq.executor import Executor
from tvm_rsq.model import Model
from tvm_rsq.plan import QuantPlan
from tvm_rsq.planner import make_plan
from tvm_rsq.reconstruct import Reconstruction, reconstruct
from tvm_rsq.reconstruct_block import Settings
from tvm_rsq.reconstruction_budget import BlockCost, Budget, fitting, plan_budget, views
from tvm_rsq.round_weights import nearest
from tvm_rsq.sensitivity import fake_quantized


def _network() -> Model:
    """Two residual blocks and a classifier, (1, 3, 12, 12) -> 6 classes, biases everywhere."""
    rng = np.random.default_rng(3)
    shapes = {"stem": (8, 3, 3, 3), "a": (8, 8, 3, 3), "b": (8, 8, 3, 3), "c": (8, 8, 3, 3), "d": (8, 8, 3, 3)}
    params = {name: (rng.standard_normal(shape) / 5).astype(np.float32) for name, shape in shapes.items()}
    params |= {f"{name}.bias": (rng.standard_normal((1, 8, 1, 1)) / 5).astype(np.float32) for name in shapes}
    params["dense"] = rng.standard_normal((8, 6)).astype(np.float32)

    def body(emit, x, p):
        def conv(x, name):
            return emit(R.add(emit(R.nn.conv2d(x, p[name], padding=1)), p[f"{name}.bias"]))

        x = emit(R.nn.relu(conv(x, "stem")))
        for first, second in (("a", "b"), ("c", "d")):
            y = conv(emit(R.nn.relu(conv(x, first))), second)
            x = emit(R.nn.relu(emit(R.add(y, x))))
        return emit(R.matmul(emit(R.mean(x, [2, 3])), p["dense"]))

    return pipeline.prepare(build(body, [(1, 3, 12, 12)], params))


@pytest.fixture(scope="module")
def network() -> Model:
    return _network()


@pytest.fixture(scope="module")
def images() -> CalibrationSet:
    rng = np.random.default_rng(1)
    return CalibrationSet(inputs=(rng.standard_normal((12, 3, 12, 12)).astype(np.float32),))


def _plan(network: Model, images: CalibrationSet, **config) -> QuantPlan:
    return make_plan(network, images, QuantConfig(scheme="per_channel", eight_bit_share=0.0, **config))


def _budget(blocks: int, **settings) -> Budget:
    return Budget(settings=(Settings(**{"iterations": 40, "batch": 6, **settings}),) * blocks)


def _output_error(network: Model, images: CalibrationSet, made: Reconstruction) -> float:
    executor = Executor(network)
    inputs = [torch.from_numpy(array) for array in images.inputs]
    params = {name: torch.from_numpy(value) for name, value in made.adjusted.items()}
    with torch.no_grad():
        exact = executor.run(inputs)[0]
        rough = executor.run(inputs, params=params, observe=lambda name, value: fake_quantized(value, made.tensors.get(name)))[0]
    return float((rough - exact).square().mean())


def _on_grid(plan: QuantPlan, made: Reconstruction, executor: Executor) -> None:
    axes = {layer.name: layer.axis for layer in executor.layers}
    for layer in plan.layers:
        value = made.adjusted[layer.name]
        scale = np.asarray(layer.weight_scale, np.float32).reshape([-1 if i == axes[layer.name] else 1 for i in range(value.ndim)])
        q = np.rint(value / scale)
        assert value.dtype == np.float32 and np.abs(q).max() <= 2 ** (layer.weight_bits - 1) - 1
        np.testing.assert_array_equal(value, scale * q.astype(np.float32))


def test_every_image_is_seen_eight_times_and_inputs_are_mixed_at_8_bits_too(network, images, monkeypatch):
    seen = []

    def learn(work, data, settings, *_, **__):
        seen.append((len(data), settings.keep_float, settings.batch))
        return {}

    monkeypatch.setattr("tvm_rsq.reconstruct.learn", learn)
    made = reconstruct(network, _plan(network, images, weight_bits=4), images)
    assert seen == [(96, 0.5, 32)] * 2 and made.notes[0] == "learned from 96 views of 12 of 12 images"
    seen.clear()
    reconstruct(network, _plan(network, images, weight_bits=4), images, layerwise=True)
    assert {keep_float for _, keep_float, _ in seen} == {0.0}


@pytest.mark.parametrize("seen, steps", [(1, 160), (8, 320)])  # views of 12 images, 6 at a time
@pytest.mark.parametrize("layerwise, blocks, part", [(False, 2, 0.5), (True, 6, 0.9)])
def test_four_bit_weights_come_closer_than_nearest_ones_on_their_grid(network, images, layerwise, blocks, part, seen, steps, monkeypatch):
    monkeypatch.setattr("tvm_rsq.reconstruct.views", lambda *_: seen)
    plan = _plan(network, images, weight_bits=4)
    floats = {name: value.copy() for name, value in network.params.items()}
    given = Reconstruction(adjusted=nearest(network, plan), tensors=plan.tensors, notes=(), blocks=2)
    events = []
    budget = _budget(blocks, iterations=steps)
    made = reconstruct(network, plan, images, layerwise=layerwise, budget=budget, progress=events.append)
    assert _output_error(network, images, made) < part * _output_error(network, images, given)
    _on_grid(plan, made, Executor(network))
    assert made.tensors == plan.tensors  # 8 bits stay as they are
    assert [(e.done, e.total) for e in events] == [(i + 1, blocks) for i in range(blocks)]
    for name, value in floats.items():
        np.testing.assert_array_equal(network.params[name], value)


def test_scales_of_four_bit_activations_are_learned_and_what_shares_a_scale_keeps_sharing_it(network, images):
    plan = _plan(network, images, weight_bits=4, activation_bits=4)
    given = Reconstruction(adjusted=nearest(network, plan), tensors=plan.tensors, notes=(), blocks=2)
    made = reconstruct(network, plan, images, budget=_budget(2, iterations=100, keep_float=0.5))
    assert _output_error(network, images, made) < 0.7 * _output_error(network, images, given)
    changed = {name for name, quant in made.tensors.items() if quant != plan.tensors[name]}
    assert len(changed) >= 4
    for name, quant in made.tensors.items():
        assert (quant.bits, quant.zero_point) == (plan.tensors[name].bits, plan.tensors[name].zero_point)
        assert quant.bits < 8 or name not in changed
        for other, same in plan.tensors.items():
            if same.scale == plan.tensors[name].scale:
                assert made.tensors[other].scale == quant.scale


def test_the_same_seed_gives_the_same_bytes(network, images):
    plan = _plan(network, images, weight_bits=4, activation_bits=4)
    first, second, other = (reconstruct(network, plan, images, seed=seed, budget=_budget(2, keep_float=0.5)) for seed in (1, 1, 2))
    assert first.tensors == second.tensors and first.notes == second.notes
    assert all(first.adjusted[name].tobytes() == second.adjusted[name].tobytes() for name in first.adjusted)
    assert any(first.adjusted[name].tobytes() != other.adjusted[name].tobytes() for name in first.adjusted)


@pytest.mark.parametrize("interrupt", [False, True])
def test_when_stopped_the_blocks_that_are_done_are_kept_and_a_note_says_so(network, images, interrupt):
    plan = _plan(network, images, weight_bits=4)
    start = nearest(network, plan)
    done = []

    def progress(event):
        done.append(event.done)
        if interrupt and event.done == 1:
            raise KeyboardInterrupt

    made = reconstruct(
        network, plan, images, budget=_budget(2), progress=progress, should_stop=None if interrupt else lambda: len(done) >= 1
    )  # fmt: skip
    assert made.notes[-1] == "stopped by the user: 1 of 2 blocks are reconstructed" and made.blocks == 1
    moved = {name for name in start if not np.array_equal(made.adjusted[name], start[name])}
    assert moved and moved <= {"stem", "a", "b"}
    _on_grid(plan, made, Executor(network))


def test_float_layers_are_left_alone_and_accumulate16_is_named(network, images):
    plan = _plan(network, images, weight_bits=4, overrides={"a": "float", "b": "weight_bits=8,accumulate16=1"})
    made = reconstruct(network, plan, images, budget=_budget(2))
    assert "a" not in made.adjusted and "a.bias" not in made.adjusted
    np.testing.assert_array_equal(made.adjusted["b"], nearest(network, plan)["b"])
    assert made.notes[1] == "not reconstructed, for their sums are to fit 16 bits: b"


def test_a_given_rounding_and_bias_is_the_start(network, images):
    plan = _plan(network, images, weight_bits=4)
    bias = network.params[next(name for name in network.params if name.endswith("bias"))]
    name = next(name for name, value in network.params.items() if value is bias)
    still = replace(_budget(2).settings[0], iterations=0)
    made = reconstruct(network, plan, images, adjusted={name: bias + 1}, budget=Budget(settings=(still,) * 2))
    np.testing.assert_array_equal(made.adjusted[name], bias + 1)
    assert "2 of 2 blocks were best as they were" in made.notes[-1]
    with pytest.raises(ConfigError, match="adjusted has .'nothing'., expected parameters"):
        reconstruct(network, plan, images, adjusted={"nothing": bias})


def test_the_budget_follows_the_costs():
    costs = [BlockCost(image_s=0.1, step_s=0.01, chunk=4), BlockCost(image_s=0.001, step_s=0.01, chunk=4)]
    budget = plan_budget(costs, 64, seconds=400)
    assert [s.batch for s in budget.settings] == [4, 32] and len({s.iterations for s in budget.settings}) == 1
    assert plan_budget(costs, 3, seconds=400).settings[1].batch == 3
    tight = plan_budget(costs, 64, seconds=1)
    assert [s.batch for s in tight.settings] == [2, 2] and tight.settings[0].iterations == 100
    assert plan_budget(costs, 64, keep_float=0.5).settings[0].keep_float == 0.5


def test_views_are_as_many_as_fit_in_memory_and_are_of_use():
    small, large = (BlockCost(image_s=0.1, step_s=0.01, chunk=4, kept=kept) for kept in (1000, 12_000_000))
    assert [views([small], images) for images in (1, 32, 64, 256, 1000)] == [8, 8, 4, 1, 1]
    assert [views([small, large], images) for images in (8, 32, 200)] == [8, 3, 1]
    assert fitting([small, large]) == 125 and fitting([]) > 10**6
