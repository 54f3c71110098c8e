"""Decisions in their order: DFQ from end to end, learned scales that arrive in the integer network, notes, seeds, refusals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import tvm_rsq
from tests.integer_networks import Block, conv
from tests.trained_network import trained
from tvm_rsq import api
from tvm_rsq.adopt_reconstruction import adopt_reconstruction
from tvm_rsq.calibration_set import CalibrationSet
from tvm_rsq.config import QuantConfig
from tvm_rsq.decide import decide
from tvm_rsq.errors import ConfigError
from tvm_rsq.executor import Executor
from tvm_rsq.frontend.load_model import load
from tvm_rsq.model import Model
from tvm_rsq.pipeline import prepare
from tvm_rsq.plan import QuantPlan
from tvm_rsq.planner import make_plan
from tvm_rsq.progress import Progress
from tvm_rsq.quantized_model import QuantizedModel
from tvm_rsq.recipe import recipe
from tvm_rsq.reconstruct import Reconstruction
from tvm_rsq.reconstruct_block import Settings
from tvm_rsq.reconstruction_budget import Budget
from tvm_rsq.round_weights import nearest
from tvm_rsq.sensitivity import fake_quantized

FOUR = {"eight_bit_share": 0.0, "weight_bits": 4, "activation_bits": 4, "scheme": "per_channel"}
LEARN = {**FOUR, "rounding": "reconstruct"}


def badly_scaled() -> nn.Module:
    """conv - bn - relu, twice, and a dense layer; what a channel of the first is too small by, the second layer's weights are too large."""
    module = nn.Sequential(
        conv(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(), conv(8, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5),
    )  # fmt: skip
    trained(module, 16, 3, 10, 10)
    factor = 2.0 ** torch.arange(-4, 4)
    with torch.no_grad():
        module[1].weight.mul_(factor), module[1].bias.mul_(factor)
        module[3].weight.div_(factor[None, :, None, None])
    return module


def residual() -> nn.Module:
    """A residual block, pooling that keeps a scale, and a depthwise layer."""

    def forward(m, x):
        x = F.relu(m.n1(m.stem(x)))
        y = F.relu(m.n2(m.a(x)))
        x = F.max_pool2d(F.relu(m.n3(m.b(y)) + x), 2)
        return m.dense(F.relu(m.n4(m.c(x))).mean((2, 3)))

    parts = {name: conv(8, 8, 3, padding=1, bias=False) for name in "ab"}
    norms = {f"n{i}": nn.BatchNorm2d(8) for i in range(1, 5)}
    stem, c = conv(3, 8, 3, padding=1, bias=False), conv(8, 8, 3, groups=8, bias=False)
    return trained(Block(forward, stem=stem, c=c, dense=nn.Linear(8, 5), **parts, **norms), 16, 3, 10, 10)[0]


def no_batch_norms() -> nn.Module:
    return nn.Sequential(conv(3, 8, 3), nn.ReLU(), conv(8, 4, 3))


def images(count: int = 16) -> CalibrationSet:
    return CalibrationSet(inputs=(torch.randn(count, 3, 10, 10, generator=torch.Generator().manual_seed(1)).numpy(),))


@cache
def loaded(module: Callable[[], nn.Module]) -> tuple[Model, Model]:
    source = load(module().eval(), (torch.zeros(1, 3, 10, 10),))
    return source, prepare(source)


def made(module: Callable[[], nn.Module], config: QuantConfig, data: CalibrationSet | None = None, **keywords) -> QuantizedModel:
    source, deploy = loaded(module)
    data = data or images()
    found = decide(source, deploy, data, config, **keywords)
    return QuantizedModel(source=source, model=deploy, plan=found.plan, calibration=data, config=config, adjusted=found.adjusted)


def budget(blocks: int) -> Budget:
    return Budget(settings=(Settings(iterations=25, batch=8, keep_float=0.5),) * blocks)


def error(found: QuantizedModel) -> float:
    x = images(32).inputs[0]
    (exact,) = Executor(found.model).run([torch.from_numpy(x)])
    return float(np.square(found.simulate(x) - exact.numpy()).mean())


# --- DFQ


def test_dfq_repairs_badly_scaled_channels_of_a_network_with_one_scale_a_tensor():
    plain = QuantConfig(scheme="per_tensor", equalization="none", bias_correction="none")
    dfq = plain.replace(equalization="weights", bias_correction="analytic")
    before, equalized, after = (made(badly_scaled, config) for config in (plain, plain.replace(equalization="weights"), dfq))
    assert error(equalized) < 0.3 * error(before) and error(after) < 0.3 * error(before)
    assert after.plan.provenance["equalization"] == "weights" and after.plan.network_hash == after.model.network_hash
    assert "8.bias" not in equalized.adjusted and "8.bias" in after.adjusted
    assert "analytic bias correction leaves 1 of 3 layers as they are: the mean of its input is not known (1)" in after.plan.notes


@pytest.mark.parametrize("module, bound", [(no_batch_norms, 1e-5), (badly_scaled, 1e-2)])  # absorption cuts off what is below 3 deviations
def test_equalized_weights_compute_the_float_function(module, bound):
    found = made(module, QuantConfig(equalization="weights", bias_correction="none", overrides={"*": "float"}))
    assert not np.array_equal(found.adjusted["0.weight"], found.model.params["0.weight"])
    x, params = torch.from_numpy(images().inputs[0]), {name: torch.from_numpy(value) for name, value in found.adjusted.items()}
    executor = Executor(found.model)
    (exact,), (equalized,) = executor.run([x]), executor.run([x], params=params)
    assert float((equalized - exact).abs().max()) < bound * float(exact.abs().max())


@pytest.mark.parametrize("correction", ["empirical", "none"])
def test_weights_are_equalized_without_batch_norms_too(correction):
    found = made(no_batch_norms, QuantConfig(scheme="per_tensor", equalization="weights", bias_correction=correction))
    assert {"0.weight", "2.weight"} <= found.adjusted.keys() and found.plan.notes == ()


def test_a_note_says_where_there_is_nothing_to_equalize():
    found = made(lambda: nn.Sequential(conv(3, 8, 3), nn.ReLU6(), conv(8, 4, 3)), QuantConfig(equalization="weights"))
    assert found.plan.notes == ("no weights are equalized: no layer is the only reader of another's output, through relu or nothing",)


def test_analytic_correction_without_batch_norms_is_refused_before_the_long_work(monkeypatch):
    monkeypatch.setattr(api, "synthesize_inputs", lambda *args, **keywords: pytest.fail("synthesized"))
    with pytest.raises(ConfigError, match='needs batch norms behind layers, and this network has none .*; use "empirical"'):
        tvm_rsq.quantize(no_batch_norms(), QuantConfig(bias_correction="analytic"), example_inputs=(torch.zeros(1, 3, 10, 10),))


@pytest.mark.parametrize("rounding", ["adaround", "reconstruct"])
def test_what_learns_biases_takes_no_analytic_ones(rounding):
    with pytest.raises(ConfigError, match=f"rounding '{rounding}' learns biases, which 'analytic' would replace"):
        QuantConfig(rounding=rounding, bias_correction="analytic")


# --- reconstruction


def test_learned_scales_are_the_integer_network_s():
    """The integer network against the executor with fake-quantized tensors and biases in the units of the learned scales.

    Equal but for ties between two steps, of which the one may take the lower and the other the upper.
    """
    found = made(residual, QuantConfig(**LEARN), budget=budget(3))
    start = make_plan(found.model, found.calibration, found.config)
    moved = {name for name, quant in found.plan.tensors.items() if quant != start.tensors[name]}
    assert len(moved) >= 4 and found.plan.provenance["bias_correction"] == "none"
    sample = images(8).inputs[0]
    params = {name: torch.from_numpy(value).double() for name, value in found.adjusted.items()}
    for layer in Executor(found.model).layers:
        unit = np.asarray(found.plan.layer(layer.name).weight_scale) * found.plan.tensors[layer.input].scale
        bias = layer.name.replace("weight", "bias")
        params[bias] = torch.from_numpy(np.rint(found.adjusted[bias] / unit) * unit)
    stored: dict[str, np.ndarray] = {}

    def observe(name: str, value: torch.Tensor) -> torch.Tensor | None:
        if (quant := found.plan.tensors.get(name)) is None:
            return None
        value = fake_quantized(value.float(), quant)
        stored[name] = np.rint(value.numpy() / quant.scale).astype(np.int64) + quant.zero_point
        return value.double()

    (expected,) = Executor(found.model, dtype=torch.float64).run([torch.from_numpy(sample)], params=params, observe=observe)
    simulated = found.simulate_tensors(sample)
    assert simulated.keys() == stored.keys()
    for name, value in simulated.items():
        difference = np.abs(value.astype(np.int64) - stored[name])
        assert difference.max() <= 1 and (difference > 0).mean() < 2e-3, name
    np.testing.assert_allclose(found.simulate(sample), expected, atol=0.02 * float(expected.abs().max()))
    np.testing.assert_allclose(found.compile().run(sample[:1]), found.simulate(sample[:1]), rtol=1e-5, atol=1e-6)


def test_reconstruction_is_closer_than_what_it_starts_from():
    before = made(residual, QuantConfig(**FOUR, rounding="squant", bias_correction="none"))
    after = made(residual, QuantConfig(**LEARN), budget=budget(3))
    assert error(after) < 0.8 * error(before)
    assert any(not np.array_equal(after.adjusted[name], before.model.params[name]) for name in after.adjusted if name.endswith("bias"))


def test_adaround_learns_layer_by_layer_and_equalized_weights_are_its_start():
    config = QuantConfig(weight_bits=4, scheme="per_channel", rounding="adaround", equalization="weights")
    events: list[Progress] = []
    found = made(badly_scaled, config, progress=events.append, budget=budget(3))
    assert [(e.done, e.total) for e in events if e.stage == "reconstruction"] == [(0, 1), (1, 3), (2, 3), (3, 3)]
    plain = config.replace(rounding="squant", bias_correction="none")
    assert error(found) < error(made(badly_scaled, plain))


def test_the_same_seed_gives_the_same_decisions_and_another_others():
    one, two, other = (made(residual, QuantConfig(**LEARN, seed=seed), budget=budget(3)) for seed in (3, 3, 4))
    assert one.plan.to_json() == two.plan.to_json()
    assert all(np.array_equal(one.adjusted[name], two.adjusted[name]) for name in one.adjusted)
    assert any(not np.array_equal(one.adjusted[name], other.adjusted[name]) for name in one.adjusted)


def test_reconstruction_can_be_stopped_and_its_notes_reach_plan_and_report():
    found = made(residual, QuantConfig(**LEARN), budget=budget(3), should_stop=lambda: True)
    assert found.plan.notes == ("learned from 128 views of 16 of 16 images", "stopped by the user: 0 of 2 blocks are reconstructed")
    assert QuantPlan.from_json(found.plan.to_json()).notes == found.plan.notes
    assert found.plan.notes[0] in found.compile().report.notes
    # Nothing was learned, so it is what it would have started from, with its biases corrected.
    assert (found.plan.provenance["rounding"], found.plan.provenance["bias_correction"]) == ("squant", "empirical")
    start = made(residual, QuantConfig(**{**LEARN, "rounding": "squant"}))
    assert all(np.array_equal(found.adjusted[name], value) for name, value in start.adjusted.items())


def test_a_layer_whose_sums_would_overflow_keeps_its_bias_and_scale():
    _, model = loaded(residual)
    plan = make_plan(model, images(), QuantConfig(**FOUR))
    layer = next(layer for layer in Executor(model).layers if layer.name.startswith("b"))
    shared = {name for name, quant in plan.tensors.items() if quant.scale == plan.tensors[layer.input].scale}
    tiny = {name: replace(plan.tensors[name], scale=plan.tensors[name].scale * 1e-9) for name in shared}
    learned = Reconstruction(
        adjusted={**nearest(model, plan), "dense.bias": model.params["dense.bias"] + 1}, tensors={**plan.tensors, **tiny},
        notes=("learned",), blocks=1,
    )  # fmt: skip
    found = adopt_reconstruction(model, plan, learned)
    assert found.plan.tensors == plan.tensors
    assert found.notes[0] == "learned" and "sums might overflow" in found.notes[1] and "b.weight" in found.notes[1]
    np.testing.assert_array_equal(found.adjusted["dense.bias"], model.params["dense.bias"] + 1)


# --- the recipe


def test_best_effort_reconstructs_below_8_bits():
    best = QuantConfig(effort="best")
    assert recipe(best, "real").rounding == "squant"
    for low in (best.replace(weight_bits=4), best.replace(activation_bits=4)):
        assert (recipe(low, "real").rounding, recipe(low, "real").bias_correction) == ("reconstruct", "none")
    assert recipe(best.replace(weight_bits=4, bias_correction="analytic"), "real").rounding == "squant"
    assert recipe(best.replace(weight_bits=4, bias_correction="empirical"), "real").bias_correction == "empirical"
    assert recipe(QuantConfig(rounding="adaround"), "real").bias_correction == "none"


def test_what_has_no_effect_is_said():
    images = CalibrationSet(inputs=(np.random.default_rng(0).standard_normal((4, 3, 10, 10)).astype(np.float32),))

    def notes(**config) -> str:
        source = load(badly_scaled(), (torch.zeros(1, 3, 10, 10),))
        return " ".join(decide(source, prepare(source), images, QuantConfig(scheme="per_channel", **config)).plan.notes)

    assert "eight_bit_share 0.2 has no effect: weight_bits is 8" in notes(eight_bit_share=0.2)
    assert "effort best has no effect: images are given, and rounding is squant" in notes(effort="best")
    assert "eight_bit_share 1e-05 has no effect: the smallest layer has" in notes(weight_bits=4, eight_bit_share=1e-5)
    assert "codebook_error output has no effect: no layer has a codebook" in notes(codebook_error="output")
    assert "no effect" not in notes() + notes(weight_bits=6, eight_bit_share=0.2)
