"""FoldBatchNorm: folds behind, folds before, declines with a reason, and is exact."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import tvm
from tvm import relax
from tvm.ir import assert_structural_equal
from tvm.relax import op as R
from tvm.script import ir as I
from tvm.script import relax as S

from tvm_rsq.executor import Executor
from tvm_rsq.model import InputSpec, Model
from tvm_rsq.passes.fold_batch_norm import fold_batch_norm


def network(body, shape, params):
    """A Model whose main is `body(emit, x, params)`; params: name -> array, given to the body as variables by name."""
    builder = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType(shape, "float32"))
    weights = {name: relax.Var(name, relax.TensorType(value.shape, "float32")) for name, value in params.items()}
    with builder.function("main", [x, *weights.values()], attrs={"num_input": 1}):
        with builder.dataflow():
            output = builder.emit_output(body(builder.emit, x, weights))
        builder.emit_func_output(output)
    return Model(module=builder.get(), params=params, inputs=(InputSpec(name="x", shape=shape, dtype="float32"),))


def noise(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def statistics(channels, prefix="bn", seed=10):
    """Parameters of a batch normalisation, one of whose channels is dead and one constant in training."""
    variance = np.random.default_rng(seed).uniform(0.2, 2, channels).astype(np.float32)
    gamma = noise(channels, seed=seed + 1)
    gamma[0], variance[1] = 0, 0
    values = (gamma, noise(channels, seed=seed + 2), noise(channels, seed=seed + 3), variance)
    return {f"{prefix}.{name}": value for name, value in zip(("weight", "bias", "mean", "var"), values, strict=True)}


def batch_norm(emit, x, p, prefix="bn", epsilon=1e-3):
    arguments = [p[f"{prefix}.{name}"] for name in ("weight", "bias", "mean", "var")]
    return emit(emit(R.nn.batch_norm(x, *arguments, axis=1, epsilon=epsilon, training=False))[0])


def operators(model):
    return [step.op.removeprefix("relax.").removeprefix("nn.") for step in Executor(model).steps]


def assert_same_function(folded, model):
    """Float64 evaluation apart from the folded weights' rounding to float32: relative 2^-24 per weight, summed over a window."""
    x = torch.from_numpy(noise(2, *model.inputs[0].shape[1:], seed=99)).double()
    after, before = (Executor(each, dtype=torch.float64).run([x]) for each in (folded, model))
    for got, expected in zip(after, before, strict=True):
        torch.testing.assert_close(got, expected, rtol=2e-6, atol=2e-6 * float(expected.abs().max()))


def test_behind_a_convolution():
    @I.ir_module
    class Expected:
        @S.function
        def main(x: S.Tensor((1, 3, 6, 6), "float32"), w: S.Tensor((4, 3, 3, 3), "float32"), b: S.Tensor((1, 4, 1, 1), "float32")):
            S.func_attr({"num_input": 1})
            with S.dataflow():
                conv = S.nn.conv2d(x, w, padding=[1, 1, 1, 1])
                out = S.add(conv, b)
                S.output(out)
            return out

    params = {"features.0.weight": noise(4, 3, 3, 3), **statistics(4)}
    model = network(lambda emit, x, p: batch_norm(emit, emit(R.nn.conv2d(x, p["features.0.weight"], padding=1)), p), (1, 3, 6, 6), params)
    before = model.module.script()
    folded = fold_batch_norm(model)
    assert_structural_equal(folded.module, Expected)
    assert list(folded.params) == ["features.0.weight", "features.0.bias"]
    assert_same_function(folded, model)
    assert model.module.script() == before and list(model.params) == list(params)


@pytest.mark.parametrize("first", [True, False])
def test_bias_in_between_is_absorbed_and_keeps_its_name(first):
    params = {"w": noise(4, 3, 3, 3), "the_bias": noise(1, 4, 1, 1), **statistics(4)}

    def body(emit, x, p):
        conv = emit(R.nn.conv2d(x, p["w"]))
        return batch_norm(emit, emit(R.add(conv, p["the_bias"]) if first else R.add(p["the_bias"], conv)), p)

    model = network(body, (1, 3, 6, 6), params)
    folded = fold_batch_norm(model)
    assert operators(folded) == ["conv2d", "add"]
    assert list(folded.params) == ["w", "the_bias"]
    assert_same_function(folded, model)


def test_two_normalisations_behind_one_another():
    params = {"w": noise(4, 3, 3, 3), **statistics(4, "a"), **statistics(4, "b", seed=20)}

    def body(emit, x, p):
        return batch_norm(emit, batch_norm(emit, emit(R.nn.conv2d(x, p["w"])), p, "a"), p, "b")

    model = network(body, (1, 3, 6, 6), params)
    folded = fold_batch_norm(model)
    assert operators(folded) == ["conv2d", "add"]
    assert_same_function(folded, model)


def test_behind_a_grouped_convolution_and_a_squeeze():
    params = {"w": noise(4, 2, 1, 3), "b": noise(1, 4, 1), **statistics(4)}

    def body(emit, x, p):
        conv = emit(R.nn.conv2d(x, p["w"], groups=2))
        return batch_norm(emit, emit(R.add(emit(R.squeeze(conv, [2])), p["b"])), p)

    model = network(body, (1, 4, 1, 9), params)
    folded = fold_batch_norm(model)
    assert operators(folded) == ["conv2d", "add", "squeeze"]
    assert_same_function(folded, model)


def test_behind_a_dense_layer():
    params = {"fc.weight": noise(6, 4), **statistics(4)}
    model = network(lambda emit, x, p: batch_norm(emit, emit(R.matmul(x, p["fc.weight"])), p), (1, 6), params)
    folded = fold_batch_norm(model)
    assert operators(folded) == ["matmul", "add"]
    assert list(folded.params) == ["fc.weight", "fc.bias"] and folded.params["fc.bias"].shape == (4,)
    assert_same_function(folded, model)


@pytest.mark.parametrize("groups", [1, 2])
def test_before_a_convolution_without_padding(groups):
    params = {"w": noise(4, 6 // groups, 3, 3), "b": noise(1, 4, 1, 1), **statistics(6)}

    def body(emit, x, p):
        normal = batch_norm(emit, emit(R.nn.relu(x)), p)
        return R.add(emit(R.nn.conv2d(normal, p["w"], groups=groups)), p["b"])

    model = network(body, (1, 6, 6, 6), params)
    folded = fold_batch_norm(model)
    assert operators(folded) == ["relu", "conv2d", "add"]
    assert list(folded.params) == ["w", "b"]
    assert_same_function(folded, model)


def test_before_and_behind_one_convolution():
    params = {"w": noise(4, 6, 1, 1), **statistics(6, "a"), **statistics(4, "b", seed=20)}

    def body(emit, x, p):
        return batch_norm(emit, emit(R.nn.conv2d(batch_norm(emit, x, p, "a"), p["w"])), p, "b")

    model = network(body, (1, 6, 6, 6), params)
    folded = fold_batch_norm(model)
    assert operators(folded) == ["conv2d", "add"]
    assert_same_function(folded, model)


def test_before_a_dense_layer_behind_a_reshape():
    params = {"w": noise(3 * 2 * 2, 5), **statistics(3)}

    def body(emit, x, p):
        return R.matmul(emit(R.reshape(batch_norm(emit, emit(R.nn.relu(x)), p), (1, 12))), p["w"])

    model = network(body, (1, 3, 2, 2), params)
    folded = fold_batch_norm(model)
    assert operators(folded) == ["relu", "reshape", "matmul", "add"]
    assert_same_function(folded, model)


def test_elsewhere_it_becomes_a_depthwise_layer_called_by_gamma():
    params = {**statistics(6), "w": noise(4, 6, 3, 3)}

    def body(emit, x, p):
        return R.nn.conv2d(batch_norm(emit, emit(R.nn.relu(x)), p), p["w"], padding=1)

    model = network(body, (1, 6, 6, 6), params)
    folded = fold_batch_norm(model)
    assert operators(folded) == ["relu", "conv2d", "add", "conv2d"]
    assert [layer.name for layer in Executor(folded).layers] == ["bn.weight", "w"]
    shapes = {name: value.shape for name, value in folded.params.items()}
    assert shapes == {"bn.weight": (6, 1, 1, 1), "bn.bias": (1, 6, 1, 1), "w": (4, 6, 3, 3)}
    assert_same_function(folded, model)


@pytest.mark.parametrize("shape", [(1, 6), (1, 6, 5)])
def test_elsewhere_on_vectors_it_becomes_a_product_and_a_sum(shape):
    model = network(lambda emit, x, p: batch_norm(emit, emit(R.nn.relu(x)), p), shape, statistics(6))
    folded = fold_batch_norm(model)
    assert operators(folded) == ["relu", "multiply", "add"]
    assert_same_function(folded, model)


def test_products_and_sums_with_parameters_that_follow_belong_to_it():
    params = {**statistics(6, "a"), "a.scale": noise(6, 1, 1), "a.shift": noise(1, 6, 1, 1)}
    params |= {"w": noise(4, 6, 3, 3), **statistics(4, "b"), "b.scale": noise(4, 1, 1)}

    def body(emit, x, p):
        first = emit(R.nn.relu(emit(R.add(emit(R.multiply(batch_norm(emit, x, p, "a"), p["a.scale"])), p["a.shift"]))))
        return R.multiply(batch_norm(emit, emit(R.nn.conv2d(first, p["w"], padding=1)), p, "b"), p["b.scale"])

    model = network(body, (1, 6, 5, 5), params)
    folded = fold_batch_norm(model)
    assert operators(folded) == ["conv2d", "add", "relu", "conv2d", "add"]
    assert [layer.name for layer in Executor(folded).layers] == ["a.weight", "w"]
    assert_same_function(folded, model)


@pytest.mark.parametrize("before", [False, True])
def test_a_product_with_a_parameter_is_folded_without_a_batch_norm(before):
    def body(emit, x, p):
        if before:
            return R.nn.conv2d(emit(R.multiply(emit(R.nn.relu(x)), p["s"])), p["w"])
        return R.nn.relu(emit(R.multiply(emit(R.nn.conv2d(x, p["w"])), p["s"])))

    model = network(body, (1, 4, 5, 5), {"w": noise(4, 4, 3, 3), "s": noise(1, 4, 1, 1)})
    folded = fold_batch_norm(model)
    assert "multiply" not in operators(folded)
    assert_same_function(folded, model)


def test_a_product_with_a_number_or_away_from_a_layer_is_left_alone():
    def body(emit, x, p):
        half = emit(R.multiply(emit(R.nn.conv2d(emit(R.multiply(x, p["s"])), p["w"], padding=1)), relax.const(0.5)))
        return R.nn.relu(half)

    model = network(body, (1, 4, 5, 5), {"w": noise(4, 4, 3, 3), "s": noise(1, 4, 1, 1)})
    folded = fold_batch_norm(model)
    assert operators(folded) == ["multiply", "conv2d", "multiply", "relu"]
    assert_same_function(folded, model)


def test_an_output_with_several_readers_is_not_folded_behind():
    params = {"w": noise(4, 3, 3, 3), **statistics(4)}

    def body(emit, x, p):
        conv = emit(R.nn.conv2d(x, p["w"]))
        return R.add(conv, batch_norm(emit, conv, p))

    model = network(body, (1, 3, 6, 6), params)
    folded = fold_batch_norm(model)
    assert operators(folded) == ["conv2d", "conv2d", "add", "add"]
    np.testing.assert_array_equal(folded.params["w"], params["w"])
    assert_same_function(folded, model)


def test_a_shared_weight_is_not_folded_into():
    params = {"w": noise(3, 3, 3, 3), **statistics(3)}

    def body(emit, x, p):
        return R.nn.conv2d(batch_norm(emit, emit(R.nn.conv2d(x, p["w"])), p), p["w"])

    model = network(body, (1, 3, 8, 8), params)
    folded = fold_batch_norm(model)
    assert operators(folded) == ["conv2d", "conv2d", "add", "conv2d"]
    assert_same_function(folded, model)


def test_a_normalisation_that_the_caller_reads_too_is_not_folded_before():
    params = {"w": noise(3, 6, 1, 1), **statistics(6)}

    def body(emit, x, p):
        normal = batch_norm(emit, x, p)
        return relax.Tuple([normal, emit(R.nn.conv2d(normal, p["w"]))])

    model = network(body, (1, 6, 4, 4), params)
    folded = fold_batch_norm(model)
    assert operators(folded) == ["conv2d", "add", "conv2d"]
    assert_same_function(folded, model)


def test_shared_statistics_give_every_layer_its_own_name():
    params = statistics(6)

    def body(emit, x, p):
        return batch_norm(emit, emit(R.nn.relu(batch_norm(emit, x, p))), p)

    model = network(body, (1, 6, 4, 4), params)
    folded = fold_batch_norm(model)
    assert len(set(folded.params)) == 4
    assert_same_function(folded, model)


def test_a_constant_channel_without_epsilon_becomes_its_beta():
    params = {"w": noise(4, 3, 1, 1), **statistics(4)}
    model = network(lambda emit, x, p: batch_norm(emit, emit(R.nn.conv2d(x, p["w"])), p, epsilon=0.0), (1, 3, 4, 4), params)
    (out,) = Executor(fold_batch_norm(model)).run([torch.from_numpy(noise(1, 3, 4, 4))])
    assert torch.isfinite(out).all()
    np.testing.assert_array_equal(out[:, 1].numpy(), params["bn.bias"][1])


def test_a_second_run_changes_nothing():
    params = {"w": noise(4, 3, 3, 3), **statistics(4)}
    once = fold_batch_norm(network(lambda emit, x, p: batch_norm(emit, emit(R.nn.conv2d(x, p["w"])), p), (1, 3, 6, 6), params))
    twice = fold_batch_norm(once)
    assert_structural_equal(twice.module, once.module)
    assert all(np.array_equal(twice.params[name], value) for name, value in once.params.items())


def test_compiled_network_equals_the_compiled_original():
    params = {"w": noise(4, 3, 3, 3), **statistics(4, "a"), **statistics(4, "b", seed=20)}

    def body(emit, x, p):
        return batch_norm(emit, emit(R.nn.relu(batch_norm(emit, emit(R.nn.conv2d(x, p["w"], padding=1)), p, "a"))), p, "b")

    model = network(body, (1, 3, 6, 6), params)
    x = noise(1, 3, 6, 6)
    results = []
    for each in (model, fold_batch_norm(model)):
        passes = tvm.transform.Sequential([relax.transform.DecomposeOpsForInference(), relax.transform.LegalizeOps()])
        machine = relax.VirtualMachine(tvm.compile(passes(each.module), target=tvm.target.Target({"kind": "llvm"})), tvm.cpu())
        results.append(machine["main"](*(tvm.runtime.tensor(a, tvm.cpu()) for a in (x, *each.params.values()))).numpy())
    np.testing.assert_allclose(results[1], results[0], rtol=1e-5, atol=1e-5 * np.abs(results[0]).max())
