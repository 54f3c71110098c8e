"""Builds: the float one against torch, the quantized one against its simulation, and the same bytes every time."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import tvm_rsq
from tests import small_network
from tests.integer_case import noise, quantized
from tests.integer_networks import every_network, varied
from tvm_rsq.compiler import compile_float, compile_quantized, evaluate_elementwise
from tvm_rsq.config import QuantConfig
from tvm_rsq.errors import TargetError

SHAPE = (1, 3, 12, 12)


def torch_result(module, *arrays):
    with torch.no_grad():
        found = module(*(torch.from_numpy(array) for array in arrays))
    return [value.numpy() for value in (found if isinstance(found, tuple) else (found,))]


FLOAT = [
    "operator: local response",
    "several outputs",
    "one-dimensional",
    "operator: adaptive pool, uneven",
    "dense on three axes",
    "several inputs",
]


@pytest.mark.parametrize("name", FLOAT)
def test_the_float_build_computes_what_torch_computes(name):
    module, shapes = every_network()[name]
    arrays = [noise(*shape, seed=i) for i, shape in enumerate(shapes)]
    built = tvm_rsq.build_float(module, example_inputs=tuple(torch.from_numpy(array) for array in arrays))
    got = built.run(*arrays)
    for value, expected in zip(got if isinstance(got, tuple) else (got,), torch_result(module, *arrays), strict=True):
        np.testing.assert_allclose(value, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())
    assert built.plan is None and all("vnni" not in call.kernel for call in built.contents.calls)


def test_every_layer_in_float_is_the_float_network():
    module = varied()
    found = quantized(module, [SHAPE], QuantConfig(scheme="per_channel", overrides={"*": "float"}))
    assert not found.plan.tensors and {layer.scheme for layer in found.plan.layers} == {"float"}
    image = noise(*SHAPE, seed=1)
    (expected,) = torch_result(module, image)
    np.testing.assert_allclose(found.compile().run(image), expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found.simulate(image), expected, rtol=1e-4, atol=1e-4)


def test_the_quantized_build_is_near_the_float_one():
    found = small_network.quantized()
    image = small_network.image(1)
    exact, coarse = compile_float(found.model).run(image), small_network.compiled().run(image)
    assert np.abs(exact - coarse).max() < 0.05 and not np.array_equal(exact, coarse)
    np.testing.assert_allclose(coarse, found.simulate(image), rtol=1e-5)


def test_the_report_is_collected():
    report = small_network.compiled().report
    plan = small_network.quantized().plan
    assert report.plan == plan and report.target == "llvm" and list(report.histograms) == [layer.name for layer in plan.layers]
    assert report.weight_bytes_after == sum(layer.weight_bytes for layer in plan.layers) < report.weight_bytes_before / 3


def test_two_builds_are_the_same_bytes():
    first, second = (compile_quantized(small_network.quantized()).contents for _ in range(2))
    assert first.calls == second.calls
    assert first.library == second.library


def test_progress_is_told():
    seen = []
    compile_quantized(small_network.quantized(), progress=lambda update: seen.append((update.stage, update.done, update.total)))
    assert [entry[0] for entry in seen] == ["lower", "lower", "build", "build"] and seen[-1][1:] == (1, 1)


def test_an_unknown_target_is_refused():
    with pytest.raises(TargetError, match="unknown CPU"):
        compile_quantized(small_network.quantized(), "llvm -mcpu=skylark")


def test_elementwise_functions_are_evaluated_in_float64():
    from tvm import relax

    builder = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType((4,), "float32"))
    with builder.function("f", [x]):
        with builder.dataflow():
            out = builder.emit_output(relax.op.multiply(builder.emit(relax.op.sigmoid(x)), x))
        builder.emit_func_output(out)
    values = np.array([-3.0, 0.0, 0.1, 2.0, 40.0])
    got = evaluate_elementwise(builder.get()["f"], values.astype(np.float32))
    x64 = values.astype(np.float32).astype(np.float64)
    np.testing.assert_allclose(got, x64 / (1 + np.exp(-x64)), rtol=1e-12)
