"""ToChannelsLast: the deploy form is as documented, and every operator still computes the same."""

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
from tvm_rsq.passes import axis_order
from tvm_rsq.passes.to_channels_last import to_channels_last


def network(body, shape, params=None):
    """A Model whose main is `body(emit, x, params)`; params: name -> array, given to the body as variables by name."""
    params = params or {}
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


def operators(model):
    return [step.op.removeprefix("relax.").removeprefix("nn.") for step in Executor(model).steps]


def assert_same_function(changed, model, batch=2):
    """Sums in another order: float64, so that anything else than rounding shows."""
    x = torch.from_numpy(noise(batch, *model.inputs[0].shape[1:], seed=99)).double()
    got, expected = (Executor(each, dtype=torch.float64).run([x]) for each in (changed, model))
    assert len(got) == len(expected)
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


def test_convolution_bias_and_activation():
    @I.ir_module
    class Expected:
        @S.function
        def main(x: S.Tensor((1, 3, 6, 5), "float32"), w: S.Tensor((4, 3, 2, 3), "float32"), b: S.Tensor((4,), "float32")):
            S.func_attr({"num_input": 1})
            with S.dataflow():
                x1 = S.permute_dims(x, axes=[0, 2, 3, 1])
                conv = S.nn.conv2d(x1, w, padding=[1, 0, 0, 1], data_layout="NHWC", kernel_layout="OHWI")
                add = S.add(conv, b)
                relu = S.nn.relu(add)
                out = S.permute_dims(relu, axes=[0, 3, 1, 2])
                S.output(out)
            return out

    params = {"w": noise(4, 3, 3, 2), "b": noise(1, 4, 1, 1)}

    def body(emit, x, p):
        return R.nn.relu(emit(R.add(emit(R.nn.conv2d(x, p["w"], padding=[1, 0, 0, 1])), p["b"])))

    model = network(body, (1, 3, 6, 5), params)
    before = model.module.script()
    changed = to_channels_last(model)

    expected = Expected
    weight = changed.params["w"]
    assert weight.shape == (4, 3, 2, 3)
    np.testing.assert_array_equal(weight, params["w"].transpose(0, 2, 3, 1))
    assert_structural_equal(changed.module, expected)
    assert_same_function(changed, model)
    assert model.module.script() == before


def conv(emit, x, p, name="w"):
    return emit(R.nn.conv2d(x, p[name], padding=[1, 1, 1, 1]))


W = {"w": noise(4, 6, 3, 3)}

# what stands behind a convolution with output (1, 4, 5, 7), and how many permute_dims it needs (the input's own included)
BEHIND = {
    "sigmoid": (lambda emit, y, p: R.sigmoid(y), 2),
    "clip": (lambda emit, y, p: R.clip(y, 0, 6), 2),
    "two_outputs": (lambda emit, y, p: relax.Tuple([y, emit(R.nn.relu(y))]), 3),
    "prelu": (lambda emit, y, p: R.nn.prelu(y, p["alpha"], axis=1), 2),
    "softmax": (lambda emit, y, p: R.nn.softmax(y, axis=1), 2),
    "log_softmax": (lambda emit, y, p: R.nn.log_softmax(y, axis=-1), 2),
    "concat": (lambda emit, y, p: R.concat([y, emit(R.nn.relu(y))], axis=1), 2),
    "concat_height": (lambda emit, y, p: R.concat([y, emit(R.nn.relu(y))], axis=-2), 2),
    "split": (lambda emit, y, p: (lambda s: R.subtract(emit(s[0]), emit(s[1])))(emit(R.split(y, 2, 1))), 2),
    "split_at": (lambda emit, y, p: emit(R.split(y, [1, 3], 1))[1], 2),
    "max_pool2d": (lambda emit, y, p: R.nn.max_pool2d(y, (3, 2), (2, 2), (1, 0, 1, 1), ceil_mode=True), 2),
    "avg_pool2d": (lambda emit, y, p: R.nn.avg_pool2d(y, (3, 2), (2, 2), (1, 0, 1, 1), count_include_pad=True), 2),
    "adaptive_avg_pool2d": (lambda emit, y, p: R.nn.adaptive_avg_pool2d(y, (2, 3)), 2),
    "resize2d": (lambda emit, y, p: R.image.resize2d(y, (9, 11), method="linear"), 2),
    "mean": (lambda emit, y, p: R.mean(y, [2, 3]), 1),
    "mean_keep": (lambda emit, y, p: R.mean(y, [2, 3], True), 1),
    "max_channels": (lambda emit, y, p: R.max(y, [1]), 1),
    "sum_width": (lambda emit, y, p: R.sum(y, [-1]), 2),
    "pad": (lambda emit, y, p: R.nn.pad(y, [0, 0, 1, 2, 3, 0, 0, 4], pad_value=1.5), 2),
    "strided_slice": (lambda emit, y, p: R.strided_slice(y, [1, -1], [1, 0], [4, 6], [2, 3]), 2),
    "squeeze_expand": (lambda emit, y, p: R.squeeze(emit(R.expand_dims(y, [2])), [2]), 2),
    "image_of_vector": (lambda emit, y, p: R.nn.conv2d(emit(R.reshape(emit(R.mean(y, [2, 3])), (1, 4, 1, 1))), p["point"]), 1),
    "broadcast_to": (lambda emit, y, p: R.broadcast_to(emit(R.mean(y, [2, 3], True)), (1, 4, 3, 2)), 2),
    "permute_dims": (lambda emit, y, p: R.permute_dims(y, [0, 2, 3, 1]), 1),
    "permute_dims_width": (lambda emit, y, p: R.permute_dims(y, [0, 1, 3, 2]), 2),
    "bias": (lambda emit, y, p: R.add(p["bias"], y), 2),
    "bias_short": (lambda emit, y, p: R.multiply(y, p["short"]), 2),
    "plane": (lambda emit, y, p: R.multiply(y, p["plane"]), 2),
    "scalar": (lambda emit, y, p: R.multiply(y, relax.const(3.0)), 2),
    "matmul_of_images": (lambda emit, y, p: R.matmul(y, emit(R.permute_dims(y, [0, 1, 3, 2]))), 3),
    "tokens": (lambda emit, y, p: R.permute_dims(emit(R.reshape(y, (1, 4, 35))), [0, 2, 1]), 1),
    "flatten": (lambda emit, y, p: R.reshape(y, (1, 140)), 2),
    "flatten_op": (lambda emit, y, p: R.flatten(y), 2),
    "shuffle": (lambda emit, y, p: R.reshape(emit(R.permute_dims(emit(R.reshape(y, (1, 2, 2, 5, 7))), [0, 2, 1, 3, 4])), (1, 4, 5, 7)), 3),
    "half_channels_last": (
        lambda emit, y, p: R.reshape(emit(R.permute_dims(emit(R.reshape(y, (1, 2, 2, 5, 7))), [0, 1, 3, 4, 2])), (1, 10, 7, 2)),
        2,
    ),
    "squeeze_excite": (
        lambda emit, y, p: R.multiply(y, emit(R.sigmoid(emit(R.nn.conv2d(emit(R.nn.adaptive_avg_pool2d(y, (1, 1))), p["point"]))))),
        2,
    ),
    "response_norm": (
        lambda emit, y, p: R.divide(
            y,
            emit(R.squeeze(emit(R.nn.avg_pool3d(emit(R.expand_dims(emit(R.exp(y)), [1])), (3, 1, 1), padding=(1, 0, 0, 1, 0, 0))), [1])),
        ),
        4,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BEHIND)
def test_operator_behind_a_convolution(name):
    body, permutations = BEHIND[name]
    params = {
        **W, "alpha": noise(4, seed=1), "point": noise(4, 4, 1, 1, seed=2), "bias": noise(1, 4, 1, 1, seed=3),
        "short": noise(4, 1, 1, seed=4), "plane": noise(5, 7, seed=5),
    }  # fmt: skip
    model = network(lambda emit, x, p: body(emit, conv(emit, x, p), p), (1, 6, 5, 7), params)
    changed = to_channels_last(model)
    assert operators(changed).count("permute_dims") == permutations
    assert_same_function(changed, model, batch=1 if name == "flatten_op" else 2)


def test_channel_shuffle_is_one_permutation_of_the_last_axes():
    body, _ = BEHIND["shuffle"]
    params = {**W, "v": noise(4, 4, 3, 3)}
    changed = to_channels_last(network(lambda emit, x, p: conv(emit, body(emit, conv(emit, x, p), p), p, "v"), (1, 6, 5, 7), params))
    assert operators(changed) == ["permute_dims", "conv2d", "reshape", "permute_dims", "reshape", "conv2d", "permute_dims"]
    shuffle = Executor(changed).steps[3].expr
    assert [int(axis) for axis in shuffle.attrs.axes] == [0, 1, 2, 4, 3]


def dense(emit, x, p):
    y = emit(R.nn.relu(emit(R.reshape(conv(emit, x, p), (1, 140)))))
    y = emit(R.multiply(emit(R.add(y, p["shift"])), relax.const(0.5)))
    return R.add(emit(R.matmul(y, p["fc"])), p["fc.bias"])


DENSE = {**W, "shift": noise(140, seed=1), "fc": noise(140, 3, seed=2), "fc.bias": noise(3, seed=3)}


def test_flatten_in_front_of_a_dense_layer_permutes_its_rows():
    model = network(dense, (1, 6, 5, 7), DENSE)
    changed = to_channels_last(model)
    assert operators(changed) == ["permute_dims", "conv2d", "reshape", "relu", "add", "multiply", "matmul", "add"]
    assert set(changed.params) == set(DENSE)
    assert not np.array_equal(changed.params["fc"], DENSE["fc"])
    assert_same_function(changed, model)


def test_flatten_with_another_reader_is_permuted_back():
    def body(emit, x, p):
        y = emit(R.reshape(conv(emit, x, p), (1, 140)))
        return relax.Tuple([y, emit(R.matmul(y, p["fc"]))])

    model = network(body, (1, 6, 5, 7), {**W, "fc": DENSE["fc"]})
    changed = to_channels_last(model)
    assert operators(changed).count("permute_dims") == 2
    np.testing.assert_array_equal(changed.params["fc"], DENSE["fc"])
    assert_same_function(changed, model)


def test_flatten_of_a_single_pixel_moves_nothing():
    def body(emit, x, p):
        return R.matmul(emit(R.reshape(emit(R.mean(conv(emit, x, p), [2, 3], True)), (1, 4))), p["fc"])

    model = network(body, (1, 6, 5, 7), {**W, "fc": noise(4, 3)})
    changed = to_channels_last(model)
    assert operators(changed) == ["permute_dims", "conv2d", "mean", "reshape", "matmul"]
    np.testing.assert_array_equal(changed.params["fc"], model.params["fc"])
    assert_same_function(changed, model)


def test_a_weight_in_two_forms_keeps_its_name_for_the_first():
    def body(emit, x, p):
        flat = emit(R.reshape(conv(emit, x, p), (1, 140)))
        return R.add(emit(R.matmul(flat, p["fc"])), emit(R.matmul(emit(R.reshape(emit(R.exp(p["fc2"])), (1, 140))), p["fc"])))

    model = network(body, (1, 6, 5, 7), {**W, "fc": DENSE["fc"], "fc2": noise(140)})
    changed = to_channels_last(model)
    assert {"fc", "fc.1"} <= set(changed.params)
    assert_same_function(changed, model)


def test_a_network_of_dense_layers_is_untouched():
    params = {"a": noise(6, 4), "b": noise(4)}
    model = network(lambda emit, x, p: R.nn.relu(emit(R.add(emit(R.matmul(x, p["a"])), p["b"]))), (1, 6), params)
    assert_structural_equal(to_channels_last(model).module, model.module)


def test_an_image_that_goes_straight_to_a_dense_layer_is_not_permuted():
    model = network(lambda emit, x, p: R.matmul(emit(R.reshape(x, (1, 140))), p["fc"]), (1, 4, 5, 7), {"fc": DENSE["fc"]})
    assert operators(to_channels_last(model)) == ["reshape", "matmul"]


@pytest.mark.parametrize("body", [dense, lambda emit, x, p: BEHIND["squeeze_excite"][0](emit, conv(emit, x, p), p)])
def test_a_second_run_changes_nothing(body):
    once = to_channels_last(network(body, (1, 6, 5, 7), {**DENSE, "point": noise(4, 4, 1, 1)}))
    twice = to_channels_last(once)
    assert_structural_equal(twice.module, once.module)
    assert all(np.array_equal(twice.params[name], value) for name, value in once.params.items())


def test_compiled_network_equals_the_compiled_original():
    model = network(dense, (1, 6, 5, 7), DENSE)
    x = noise(1, 6, 5, 7)
    results = []
    for each in (model, to_channels_last(model)):
        library = tvm.compile(relax.transform.LegalizeOps()(each.module), target=tvm.target.Target({"kind": "llvm"}))
        arguments = [tvm.runtime.tensor(array, tvm.cpu()) for array in (x, *each.params.values())]
        results.append(relax.VirtualMachine(library, tvm.cpu())["main"](*arguments).numpy())
    np.testing.assert_allclose(results[1], results[0], rtol=1e-5, atol=1e-5 * np.abs(results[0]).max())


@pytest.mark.parametrize("seed", range(20))
def test_orders_of_a_reshape_are_right_for_random_shapes(seed):
    random = np.random.default_rng(seed)
    factors = [int(f) for f in random.choice([1, 2, 3], size=5)]
    cuts = [sorted(random.choice(6, size=2)) for _ in range(2)]
    source, target = ([int(np.prod(part)) for part in np.split(factors, cut)] for cut in cuts)
    source, target = [1, *source], [1, *target]
    order = (0, *(1 + int(axis) for axis in random.permutation(3)))
    original = np.arange(np.prod(source)).reshape(source)
    before, after = axis_order.reshaped(source, target, order)
    stored = original.transpose(before).reshape([target[axis] for axis in after])
    np.testing.assert_array_equal(stored, original.reshape(target).transpose(after))
