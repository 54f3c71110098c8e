"""Layers in float whose file holds codes: the plan, what the user may say, the same float weights everywhere, and the library."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

import tvm_rsq
from tests.integer_case import check, near_float, noise, quantized
from tests.integer_networks import varied
from tests.test_codebook_channels import SHAPE, module, network
from tvm_rsq.cli.show import layer_table
from tvm_rsq.compiler import build
from tvm_rsq.config import LayerOverride, QuantConfig
from tvm_rsq.errors import ConfigError, ModelError
from tvm_rsq.executor import Executor
from tvm_rsq.layer_workloads import layer_workloads
from tvm_rsq.plan import QuantPlan
from tvm_rsq.report.page import render
from tvm_rsq.report.serialise import from_dict, to_dict
from tvm_rsq.resolve_overrides import resolve_overrides
from tvm_rsq.targets.parse import parse_target
from tvm_rsq.weight_grid import as_rows

CODED = "float,grid=codebook,weight_bits=4"


def made(net=None, **fields) -> tvm_rsq.QuantizedModel:
    common = {"scheme": "per_channel", "equalization": "none"}  # so that weights are the network's own
    return quantized(net or network(), [SHAPE], QuantConfig(**{**common, **fields}))


def test_the_plan_has_levels_scales_and_the_bytes_of_codes():
    found = made(overrides={"a.weight": CODED, "b.weight": "float"})
    coded, plain, *others = found.plan.layers
    assert (coded.scheme, coded.weight_bits, coded.weight_bytes) == ("float", 4, -(-17 * 27 * 4 // 8))
    assert len(coded.codebook) == 1 and len(coded.codebook[0]) == 16 and len(coded.weight_scale) == 17
    assert 0 < coded.weight_nmse < 0.02 and coded.reason == "float by override; codebook by override"
    assert (plain.scheme, plain.weight_bits, plain.weight_bytes, plain.codebook, plain.weight_nmse) == ("float", 32, 17 * 9 * 4, (), None)
    assert all(layer.scheme == "per_channel" and not layer.codebook for layer in others)
    assert coded.levels is not None and plain.levels is None and others[0].levels is None
    assert QuantPlan.from_json(found.plan.to_json()) == found.plan


def test_layers_in_float_without_a_word_stay_as_they_are():
    before = made(overrides={"a.weight": "float", "b.weight": "float,weight_bits=4"})
    wherever = made(overrides={"a.weight": "float", "b.weight": "float,weight_bits=4"}, nonuniform=True, weight_bits=4, eight_bit_share=0.0)
    for found in (before, wherever):
        assert not found.plan.layer("a.weight").codebook and not found.plan.layer("b.weight").codebook
        for name in ("a.weight", "b.weight"):
            np.testing.assert_array_equal(found.annotated.params[name], found.model.params[name])


def test_everything_computes_with_the_same_float_weights():
    """scale * level, rounded once, of the closest levels: in the parameters that are adjusted, and in the network that is simulated."""
    found = made(overrides={"a.weight": CODED, "f.weight": "float,grid=codebook,weight_bits=3"})
    for name, axis in (("a.weight", 0), ("f.weight", 1)):
        layer = found.plan.layer(name)
        levels, scale = np.array(layer.codebook[0]), np.array(layer.weight_scale)
        rows = as_rows(found.model.params[name], axis).astype(np.float64)
        closest = np.abs(rows[..., None] - scale[:, None, None] * levels).argmin(-1)
        expected = (scale[:, None] * levels[closest]).astype(np.float32)
        for params in (found.adjusted, found.annotated.params, Executor(found.annotated).params):
            np.testing.assert_array_equal(as_rows(np.asarray(params[name]), axis), expected)
        error = np.square(rows - expected).mean() / np.square(rows).mean()
        assert layer.weight_nmse == pytest.approx(error, rel=1e-6)


@pytest.mark.parametrize("target", ["llvm", "haswell"])
@pytest.mark.parametrize(("layer", "bits"), [("a", 3), ("a", 4), ("b", 4), ("b", 6), ("c", 6), ("d", 3), ("e", 4), ("f", 3), ("f", 6)])
def test_the_library_computes_what_was_decided(layer, bits, target):
    """Of a convolution, a depthwise, a strided, two grouped ones, and a dense layer."""
    check(made(overrides={f"{layer}.weight": f"float,grid=codebook,weight_bits={bits}"}), target)


@pytest.mark.parametrize("target", ["llvm", "haswell"])
def test_what_is_expanded_has_the_bits_of_the_simulated_weight(target):
    found = made(overrides={"*": CODED})
    workloads, library = layer_workloads(found.model, found.plan), parse_target(target).library
    expanded = [weight.numpy() for weight in found.compile(target)._vm()._weights]
    for layer, weight in zip(found.plan.layers, expanded, strict=True):
        simulated = found.annotated.params[layer.name]
        ohwi = simulated.T[:, None, None] if layer.op == "dense" else simulated
        packed = library.conv2d(workloads[layer.name]).pack_weight(ohwi)
        np.testing.assert_array_equal(weight.view(np.int32), packed.view(np.int32))


def test_a_network_all_in_float_has_codes_and_is_near_itself():
    found = made(varied(), overrides={"*": "float,grid=codebook,weight_bits=6"})
    assert not found.plan.tensors and {layer.weight_bits for layer in found.plan.layers} == {6}
    x = noise(*SHAPE, seed=3)
    np.testing.assert_allclose(found.compile().run(x), found.simulate(x), rtol=1e-4, atol=1e-4)
    near_float(found, 0.05)


def test_the_file_holds_codes_and_no_weight(tmp_path):
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(1536, 1024), torch.nn.ReLU(), torch.nn.Linear(1024, 64)).eval()
    config = QuantConfig(scheme="per_channel", overrides={"0.weight": CODED})
    found = tvm_rsq.quantize(module, config, example_inputs=(torch.zeros(1, 1536),), calibration=noise(8, 1536))
    built = found.compile("llvm")
    weight = found.annotated.params["0.weight"]
    for order in (weight, np.ascontiguousarray(weight.T)):
        assert order.tobytes()[:64] not in built.contents.library
    assert found.plan.layers[0].weight_bytes == weight.size // 2
    without = build(replace_all_in_float(found), parse_target("llvm"))[0]
    assert len(without) - len(built.contents.library) > 0.85 * (4 - 1 / 2) * weight.size
    built.save(tmp_path / "net.rsq")
    x = noise(1, 1536, seed=5)
    np.testing.assert_array_equal(tvm_rsq.load(tmp_path / "net.rsq").run(x), built.run(x))
    np.testing.assert_allclose(built.run(x), found.simulate(x), rtol=1e-4, atol=1e-4)


def replace_all_in_float(found: tvm_rsq.QuantizedModel):
    """The network with the same layer in float, and no codes."""
    layers = tuple(
        replace(layer, codebook=(), weight_bits=32, weight_scale=()) if layer.codebook else layer for layer in found.plan.layers
    )
    return replace(found, plan=replace(found.plan, layers=layers)).annotated


def test_biases_make_up_for_the_error_of_codes():
    coarse = made(overrides={"d.weight": "float,grid=codebook,weight_bits=3"})
    assert not np.array_equal(coarse.adjusted["d.bias"], coarse.model.params["d.bias"])
    assert "d.bias" not in made(overrides={"d.weight": "float"}).adjusted


def test_reconstruction_leaves_the_codes_alone():
    found = made(overrides={"a.weight": CODED}, weight_bits=4, eight_bit_share=0.0, rounding="adaround")
    levels = found.plan.layer("a.weight").levels
    rows = as_rows(found.adjusted["a.weight"], 0)
    np.testing.assert_array_equal(levels.products(levels.codes(as_rows(found.model.params["a.weight"], 0))), rows)
    check(found)


def test_the_error_of_outputs_gives_other_levels():
    weight, output = (made(overrides={"d.weight": CODED}, codebook_error=error) for error in ("weight", "output"))
    assert weight.plan.layer("d.weight").codebook != output.plan.layer("d.weight").codebook
    check(output)


def test_a_layer_of_zeros_is_zero_and_of_nan_is_refused():
    net = module()
    with torch.no_grad():
        net.a.weight.zero_()
        net.c.weight.fill_(0.25)
    found = made(net, overrides={"*": CODED})
    assert not found.annotated.params["a.weight"].any() and found.plan.layer("a.weight").weight_nmse == 0
    np.testing.assert_array_equal(found.annotated.params["c.weight"], found.model.params["c.weight"])
    check(found)
    with torch.no_grad():
        net.a.weight[0, 0, 0, 0] = torch.nan
    with pytest.raises(ModelError, match="NaN"):
        made(net, overrides={"*": CODED})


def test_one_weight():
    module = torch.nn.Sequential(torch.nn.Linear(1, 1), torch.nn.ReLU(), torch.nn.Linear(1, 1)).eval()
    found = quantized(module, [(2, 1)], QuantConfig(scheme="per_channel", overrides={"0.weight": CODED}))
    np.testing.assert_allclose(found.annotated.params["0.weight"], found.model.params["0.weight"], rtol=1e-7)
    check(found)


def test_the_report_and_the_table_show_it(tmp_path):
    found = made(overrides={"a.weight": CODED, "b.weight": "float"})
    report = found.compile().report
    assert len(report.histograms["a.weight"].levels) == 16 and not report.histograms["b.weight"].levels
    again = from_dict(json.loads(json.dumps(to_dict(report))))
    page = render(again)
    shown = ((4, "4, book"), (8, "8"), (32, "32"))
    assert again.plan == found.plan and all(f'data-v="{bits}">{text}</td>' in page for bits, text in shown)
    columns = {column.header: [str(cell) for cell in column.cells] for column in layer_table(found.plan.layers).columns}
    assert columns["bits"][:2] == ["4, book", "32"] and columns["scheme"][:2] == ["float", "float"]


def word(overrides: dict[str, str]) -> LayerOverride:
    return resolve_overrides(overrides, ["a"])["a"]


def test_later_words_fill_in_and_take_back():
    assert word({"*": "grid=codebook,weight_bits=4", "a": "float"}).grid is None
    assert word({"*": "float", "a": "grid=codebook,weight_bits=4"}) == LayerOverride(scheme="float", grid="codebook", weight_bits=4)
    taken = word({"*": CODED, "a": "per_channel"})
    assert (taken.scheme, taken.grid, taken.weight_bits) == ("per_channel", "codebook", 4)
    assert word({"*": CODED, "a": "weight_bits=8"}) == LayerOverride(scheme="float", weight_bits=8)
    assert LayerOverride.parse(CODED) == LayerOverride(scheme="float", grid="codebook", weight_bits=4)


@pytest.mark.parametrize(("text", "why"), [
    ("float,grid=codebook,weight_bits=8", "a codebook of 8 bits, expected 3, 4, 6"),
    ("float,grid=codebook,weight_bits=5", "weight_bits is 5, expected one of"),
    ("float,grid=codebook,accumulate16=2", "leaves a layer in float and says how its integers are computed"),
    ("float,grid=codebook,requantize=shift", "leaves a layer in float and says how its integers are computed"),
    ("float,grid=uniform,weight_bits=4", "leaves a layer in float and says how its integers are computed"),
])  # fmt: skip
def test_what_makes_no_sense_is_refused_in_a_line(text, why):
    with pytest.raises(ConfigError, match=why) as refusal:
        QuantConfig(overrides={"a": text})
    assert "\n" not in str(refusal.value)


def test_a_codebook_needs_few_bits():
    with pytest.raises(ConfigError, match="layer a.weight is to have a codebook of 8 bits, expected 3, 4 or 6"):
        made(overrides={"a.weight": "float,grid=codebook"})
    assert made(overrides={"a.weight": "float,grid=codebook"}, weight_bits=6).plan.layer("a.weight").weight_bits == 6


GOOD = (-1.0, -0.25, 0.0, 0.5, 1.0, 1.0, 1.0, 1.0)


@pytest.mark.parametrize(("change", "why"), [
    ({"codebook": ((*GOOD[:2], 0.1, *GOOD[3:]),)}, "expected 8 ascending float32 values, one of them 0"),
    ({"codebook": ((0.0, 0.0, *GOOD[3:], 1.0),)}, "expected 8 ascending float32 values"),
    ({"codebook": ((-1.0, -0.1, *GOOD[2:]),)}, "expected 8 ascending float32 values"),
    ({"codebook": ((*GOOD[:7], float("inf")),)}, "expected 8 ascending float32 values"),
    ({"codebook": (GOOD, GOOD)}, "is in float and has 2 codebooks and 2 weight scales"),
    ({"weight_scale": ()}, "is in float and has 1 codebooks and 0 weight scales"),
    ({"weight_scale": (1.0, 0.0)}, "a weight scale of 0.0, expected positive ones"),
    ({"weight_bits": 4}, "the codebook .* of 4 bits"),
    ({"weight_bits": 32}, "the codebook .* of 32 bits"),
    ({"accumulate16": 1}, "is left in float and has neither"),
])  # fmt: skip
def test_odd_levels_in_a_plan_are_refused(change, why):
    from tvm_rsq.layer_record import LayerPlan

    good = LayerPlan(name="a", op="dense", scheme="float", weight_bits=3, weight_scale=(0.5, 2.0), codebook=(GOOD,))
    np.testing.assert_array_equal(good.levels.products(np.array([[0], [3]])), [[-0.5], [1.0]])
    with pytest.raises(ConfigError, match=why):
        replace(good, **change)
