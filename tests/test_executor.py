"""The executor against TVM's own compiler, operator by operator, and against itself: run, trace, compute, resume."""

from __future__ import annotations

import functools
import weakref

import numpy as np
import pytest
import torch
import tvm
from tvm import relax
from tvm.relax import op as R
from tvm.script import ir as I
from tvm.script import relax as S

from tvm_rsq.errors import InputError, UnsupportedError
from tvm_rsq.executor import Executor
from tvm_rsq.frontend import load
from tvm_rsq.model import InputSpec, Model
from tvm_rsq.passes.fold_batch_norm import fold_batch_norm
from tvm_rsq.passes.to_channels_last import to_channels_last

CPU = {"kind": "llvm"}


def network(body, shapes, params=None, dtype="float32"):
    """A Model whose main computes body(bb.emit, *inputs, *params)."""
    params = params or {}
    builder = relax.BlockBuilder()
    inputs = [relax.Var(f"x{i}", relax.TensorType(shape, dtype)) for i, shape in enumerate(shapes)]
    weights = [relax.Var(name, relax.TensorType(value.shape, str(value.dtype))) for name, value in params.items()]
    with builder.function("main", [*inputs, *weights], attrs={"num_input": len(inputs)}):
        with builder.dataflow():
            result = body(builder.emit, *inputs, *weights)
            output = builder.emit_output(result)
        builder.emit_func_output(output)
    specs = tuple(InputSpec(name=var.name, shape=tuple(shape), dtype=dtype) for var, shape in zip(inputs, shapes, strict=True))
    return Model(module=builder.get(), params=params, inputs=specs)


def compiled(model, *arrays):
    """What TVM makes of the model: its outputs as numpy arrays."""
    module = tvm.compile(relax.transform.LegalizeOps()(model.module), target=tvm.target.Target(CPU))
    machine = relax.VirtualMachine(module, tvm.cpu())
    result = machine["main"](*(tvm.runtime.tensor(a, tvm.cpu()) for a in (*arrays, *model.params.values())))
    return [result.numpy()] if hasattr(result, "numpy") else [part.numpy() for part in result]


def executed(model, *arrays):
    return [value.numpy() for value in Executor(model).run([torch.from_numpy(a) for a in arrays])]


def check(model, *arrays, atol=1e-5):
    """The executor equals TVM, and so does every sample of a batch of two in a network of batch one."""
    expected = compiled(model, *arrays)
    got = executed(model, *arrays)
    assert len(got) == len(expected)
    for a, b in zip(got, expected, strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=atol)
    return got


def check_batch(model, *arrays):
    """A batch of two gives what its samples give alone."""
    halves = [executed(model, *(a[i : i + 1] for a in arrays)) for i in range(2)]
    for got, first, second in zip(executed(model, *arrays), *halves, strict=True):
        np.testing.assert_allclose(got, np.concatenate([first, second]), rtol=1e-5, atol=1e-6)


def noise(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


P = functools.partial

ONE_INPUT = {
    "relu": R.nn.relu,
    "leakyrelu": P(R.nn.leakyrelu, alpha=0.2),
    "clip": P(R.clip, min=-0.3, max=0.5),
    "sigmoid": R.sigmoid,
    "tanh": R.tanh,
    "silu": R.nn.silu,
    "gelu": R.nn.gelu,
    "gelu_tanh": R.nn.gelu_tanh,
    "softmax": P(R.nn.softmax, axis=1),
    "softmax_last": P(R.nn.softmax, axis=-1),
    "log_softmax": P(R.nn.log_softmax, axis=1),
    "exp": R.exp,
    "erf": R.erf,
    "abs": R.abs,
    "negative": R.negative,
    "square": R.square,
    "floor": R.floor,
    "ceil": R.ceil,
    "round": R.round,
    "add_const": lambda x: R.add(x, relax.const(0.5)),
    "divide_const": lambda x: R.divide(x, relax.const(3.0)),
    "maximum_const": lambda x: R.maximum(x, relax.const(0.25)),
    "minimum_const": lambda x: R.minimum(x, relax.const(0.25)),
    "mean": P(R.mean, axis=[2, 3], keepdims=True),
    "mean_flat": P(R.mean, axis=[-1, -2]),
    "sum": P(R.sum, axis=[1]),
    "max": P(R.max, axis=[1], keepdims=True),
    "min": P(R.min, axis=[3]),
    "pad": P(R.nn.pad, pad_width=[0, 0, 0, 0, 1, 2, 3, 0], pad_value=0.5),
    "reshape": P(R.reshape, shape=(1, -1)),
    "reshape_split": P(R.reshape, shape=(1, 2, 3, 5, 7)),
    "permute_dims": P(R.permute_dims, axes=[0, 2, 3, 1]),
    "expand_dims": P(R.expand_dims, axis=[1, 5]),
    "strided_slice": P(R.strided_slice, axes=[1, 3], begin=[1, 0], end=[6, 100], strides=[2, 3]),
    "strided_slice_negative": P(R.strided_slice, axes=[2], begin=[-3], end=[-1]),
    "strided_slice_backwards": P(R.strided_slice, axes=[1, 3], begin=[-1, 5], end=[-100, 0], strides=[-2, -3]),
    "concat": lambda x: R.concat([x, x], 1),
    "stack": lambda x: R.stack([x, x], 1),
    "take": lambda x: R.take(x, relax.const(np.array([2, 0], "int64")), axis=1),
    "astype": P(R.astype, dtype="int32"),
    "max_pool2d": P(R.nn.max_pool2d, pool_size=(2, 2), strides=(2, 2)),
    "max_pool2d_padded": P(R.nn.max_pool2d, pool_size=(3, 3), strides=(2, 2), padding=(1, 1)),
    "max_pool2d_uneven": P(R.nn.max_pool2d, pool_size=(3, 2), strides=(2, 1), padding=(0, 1, 2, 0)),
    "max_pool2d_wide": P(R.nn.max_pool2d, pool_size=(2, 2), strides=(1, 1), padding=(1, 1, 2, 2)),
    "max_pool2d_ceil": P(R.nn.max_pool2d, pool_size=(3, 3), strides=(2, 2), ceil_mode=True),
    "max_pool2d_ceil_padded": P(R.nn.max_pool2d, pool_size=(2, 2), strides=(3, 3), padding=(1, 1), ceil_mode=True),
    "max_pool2d_dilated": P(R.nn.max_pool2d, pool_size=(2, 2), strides=(1, 1), dilation=(2, 3)),
    "avg_pool2d": P(R.nn.avg_pool2d, pool_size=(2, 2), strides=(2, 2)),
    "avg_pool2d_exclude": P(R.nn.avg_pool2d, pool_size=(3, 3), strides=(2, 2), padding=(1, 1)),
    "avg_pool2d_include": P(R.nn.avg_pool2d, pool_size=(3, 3), strides=(2, 2), padding=(1, 1), count_include_pad=True),
    "avg_pool2d_uneven": P(R.nn.avg_pool2d, pool_size=(3, 3), strides=(2, 2), padding=(0, 1, 2, 1)),
    "avg_pool2d_ceil": P(R.nn.avg_pool2d, pool_size=(2, 3), strides=(2, 2), ceil_mode=True),
    "avg_pool2d_ceil_include": P(R.nn.avg_pool2d, pool_size=(2, 3), strides=(2, 3), padding=(1, 1), ceil_mode=True, count_include_pad=True),
    "adaptive_avg_pool2d": P(R.nn.adaptive_avg_pool2d, output_size=(1, 1)),
    "adaptive_avg_pool2d_3x2": P(R.nn.adaptive_avg_pool2d, output_size=(3, 2)),
    "nhwc_max_pool2d": P(R.nn.max_pool2d, pool_size=(3, 2), strides=(2, 2), padding=(1, 0, 0, 1), layout="NHWC"),
    "nhwc_avg_pool2d": P(R.nn.avg_pool2d, pool_size=(3, 2), strides=(2, 2), padding=(1, 0, 0, 1), layout="NHWC"),
    "nhwc_adaptive_avg_pool2d": P(R.nn.adaptive_avg_pool2d, output_size=(2, 1), layout="NHWC"),
    **{
        f"resize2d_{method}_{mode}_{rounding}_{size}": P(
            R.image.resize2d, size=size, method=method, coordinate_transformation_mode=mode, rounding_method=rounding, layout=layout
        )
        for method, roundings in (("nearest_neighbor", ("round", "floor", "round_prefer_floor", "ceil")), ("linear", ("",)))
        for mode in ("half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel")
        for rounding in roundings
        for size, layout in (((10, 21), "NCHW"), ((3, 4), "NHWC"))
    },
}


@pytest.mark.parametrize("name", ONE_INPUT)
def test_operator_equals_tvm(name):
    model = network(lambda emit, x: ONE_INPUT[name](x), [(1, 6, 5, 7)])
    check(model, noise(1, 6, 5, 7))
    check_batch(model, noise(2, 6, 5, 7))


@pytest.mark.parametrize("name", ["sqrt", "rsqrt", "log"])
def test_operator_of_positive_numbers_equals_tvm(name):
    check(network(lambda emit, x: getattr(R, name)(x), [(1, 6)]), np.abs(noise(1, 6)) + 0.1)


@pytest.mark.parametrize("name", ["add", "subtract", "multiply", "divide", "maximum", "minimum"])
def test_binary_operator_broadcasts_as_tvm(name):
    model = network(lambda emit, x, y: getattr(R, name)(x, y), [(1, 3, 5, 4), (1, 3, 1, 1)])
    check(model, noise(1, 3, 5, 4), np.abs(noise(1, 3, 1, 1)) + 1)
    check_batch(model, noise(2, 3, 5, 4), np.abs(noise(2, 3, 1, 1)) + 1)


def test_power():
    check(network(lambda emit, x: R.power(x, relax.const(0.75)), [(1, 3, 5, 4)]), np.abs(noise(1, 3, 5, 4)))


CONVS = [
    {},
    {"padding": (1, 1), "strides": (2, 2)},
    {"padding": (0, 1, 2, 1), "strides": (2, 1)},
    {"padding": (2, 2), "dilation": (2, 2)},
    {"groups": 2, "padding": (1, 0)},
    {"groups": 6},
]


@pytest.mark.parametrize("options", CONVS, ids=str)
@pytest.mark.parametrize("nhwc", [False, True])
def test_conv2d(options, nhwc):
    weight = noise(12, 6 // options.get("groups", 1), 3, 2)
    layouts = {"data_layout": "NHWC", "kernel_layout": "OHWI"} if nhwc else {}
    shape = (1, 7, 9, 6) if nhwc else (1, 6, 7, 9)
    weight = weight.transpose(0, 2, 3, 1).copy() if nhwc else weight
    model = network(lambda emit, x, w: R.nn.conv2d(x, w, **options, **layouts), [shape], {"w": weight})
    check_batch(model, noise(2, *shape[1:]))
    if nhwc and "groups" in options:
        # TVM compiles no grouped NHWC x OHWI convolution: the NCHW one is the reference
        plain = network(lambda emit, x, w: R.nn.conv2d(x, w, **options), [(1, 6, 7, 9)], {"w": weight.transpose(0, 3, 1, 2).copy()})
        data = noise(*shape)
        expected = compiled(plain, data.transpose(0, 3, 1, 2).copy())[0].transpose(0, 2, 3, 1)
        np.testing.assert_allclose(executed(model, data)[0], expected, rtol=1e-5, atol=1e-5)
    else:
        check(model, noise(*shape))


@pytest.mark.parametrize("strides", [(1, 1), (1, 2), (2, 1), (1, 3)])
@pytest.mark.parametrize("size", [(9, 3), (9, 4), (5, 3)])
def test_conv2d_of_one_channel(size, strides):
    """Channels last and first have the same strides then, and torch takes one for the other."""
    layouts = {"data_layout": "NHWC", "kernel_layout": "OHWI"}
    model = network(lambda emit, x, w: R.nn.conv2d(x, w, strides=strides, **layouts), [(1, *size, 1)], {"w": noise(2, 3, 3, 1)})
    check(model, noise(1, *size, 1))
    check_batch(model, noise(2, *size, 1))


def test_matmul_batch_norm_prelu():
    params = {
        "w": noise(6, 4), "gamma": noise(4), "beta": noise(4, seed=1), "mean": noise(4, seed=2), "var": np.abs(noise(4)), "alpha": noise(4),
    }  # fmt: skip

    def body(emit, x, w, gamma, beta, mean, var, alpha):
        y = emit(R.nn.batch_norm(emit(R.matmul(x, w)), gamma, beta, mean, var, axis=1, training=False))
        return R.nn.prelu(emit(y[0]), alpha, axis=1)

    model = network(body, [(1, 6)], params)
    check(model, noise(1, 6))
    check_batch(model, noise(2, 6))


def test_split_into_equal_and_named_parts():
    model = network(lambda emit, x: relax.Tuple([emit(emit(R.split(x, 3, 1))[2]), emit(emit(R.split(x, [1, 5], 1))[1])]), [(1, 6, 2)])
    check(model, noise(1, 6, 2))


def test_squeeze_flatten_broadcast():
    check(network(lambda emit, x: R.flatten(emit(R.squeeze(x, [2]))), [(1, 6, 1)]), noise(1, 6, 1))
    model = network(lambda emit, x: R.broadcast_to(x, (1, 6, 4)), [(1, 6, 1)])
    check(model, noise(1, 6, 1))
    check_batch(model, noise(2, 6, 1))


@pytest.mark.parametrize("padding", [(1, 0, 0, 1, 0, 0), (2, 0, 0, 1, 0, 0)])
def test_local_response_normalisation(padding):
    def body(emit, x):
        square = emit(R.expand_dims(emit(R.multiply(x, x)), 1))
        size = padding[0] + padding[3] + 1
        mean = emit(R.squeeze(emit(R.nn.avg_pool3d(square, (size, 1, 1), padding=padding, count_include_pad=True)), [1]))
        return R.divide(x, emit(R.power(emit(R.add(mean, relax.const(1.0))), relax.const(0.75))))

    model = network(body, [(1, 6, 3, 2)])
    check(model, noise(1, 6, 3, 2))
    check_batch(model, noise(2, 6, 3, 2))


# powers of two, so that the ties are ties in floating point, too
QUANTIZED = [("uint8", 0.25, 7), ("int8", 0.5, -7)]


@pytest.mark.parametrize(("dtype", "scale", "zero_point"), QUANTIZED)
def test_quantize_rounds_half_to_even_and_saturates(dtype, scale, zero_point):
    model = network(lambda emit, x: R.quantize(x, relax.const(scale), relax.const(zero_point, "int32"), 1, dtype), [(1, 9)])
    data = np.array([[0, 0.5, 1.5, -0.5, -1.5, 2.5, 1e9, -1e9, 3.3]], np.float32) * np.float32(scale)
    info = np.iinfo(dtype)
    # the zero point takes part in the rounding, as in the kernels' fma(x, 1 / scale, zero_point)
    expected = np.clip(np.round(data.astype(np.float64) / scale + zero_point), info.min, info.max).astype(dtype)
    np.testing.assert_array_equal(executed(model, data)[0], expected)


def test_dequantize_undoes_quantize_to_half_a_step_per_channel():
    scale = np.array([0.1, 0.02, 0.5], np.float32)

    def body(emit, x, scale):
        zero_point = relax.const(np.array([3, 0, -5], "int32"))
        q = emit(R.quantize(x, scale, zero_point, 1, "int8"))
        return R.dequantize(q, scale, zero_point, 1, "float32")

    model = network(body, [(1, 3, 4, 4)], {"scale": scale})
    data = np.clip(noise(1, 3, 4, 4), -2, 2)
    error = np.abs(executed(model, data)[0] - data)
    assert (error <= scale[:, None, None] / 2 * (1 + 1e-5)).all()
    check(model, data)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int32"])
def test_integers_are_clipped_dequantized_and_compared_as_by_tvm(dtype):
    def body(emit, x):
        y = emit(R.maximum(emit(R.clip(x, 3, 100)), relax.const(10, dtype)))
        return R.dequantize(y, relax.const(0.25), relax.const(10, "int32"), -1, "float32")

    check(network(body, [(1, 50)], dtype=dtype), np.arange(50).reshape(1, 50).astype(dtype))


@I.ir_module
class Small:
    @S.function
    def main(
        x: S.Tensor((1, 3, 6, 6), "float32"), w1: S.Tensor((4, 3, 3, 3), "float32"), gamma: S.Tensor((4,), "float32"),
        beta: S.Tensor((4,), "float32"), mean: S.Tensor((4,), "float32"), var: S.Tensor((4,), "float32"), w2: S.Tensor((4, 5), "float32"),
    ):  # fmt: skip
        S.func_attr({"num_input": 1})
        with S.dataflow():
            conv = S.nn.conv2d(x, w1, padding=[1, 1, 1, 1])
            bn = S.nn.batch_norm(conv, gamma, beta, mean, var, axis=1, epsilon=1e-3, training=False)
            bn0 = bn[0]
            act = S.nn.silu(bn0)
            res = S.add(act, conv)
            pool = S.mean(res, axis=[2, 3])
            logits = S.matmul(pool, w2)
            S.output(logits)
        return logits


@pytest.fixture
def small():
    params = {
        "w1": noise(4, 3, 3, 3), "gamma": noise(4, seed=1), "beta": noise(4, seed=2), "mean": noise(4, seed=3),
        "var": np.abs(noise(4)) + 0.1, "w2": noise(4, 5),
    }  # fmt: skip
    return Model(module=Small, params=params, inputs=(InputSpec(name="x", shape=(1, 3, 6, 6), dtype="float32"),))


def test_gradient_with_respect_to_the_input(small):
    executor = Executor(small, dtype=torch.float64)
    x = torch.from_numpy(noise(2, 3, 6, 6)).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda value: executor.run([value]), (x,))


def test_what_the_network_is_made_of(small):
    executor = Executor(small)
    layers = [(layer.name, layer.binding, layer.input, layer.axis) for layer in executor.layers]
    assert layers == [("w1", "conv", "x", 0), ("w2", "logits", "pool", 1)]
    (bn,) = executor.batch_norms
    assert (bn.name, bn.input, bn.epsilon) == ("bn", "conv", pytest.approx(1e-3))
    np.testing.assert_array_equal(bn.mean, small.params["mean"])
    np.testing.assert_array_equal(bn.variance, small.params["var"])
    assert executor.outputs == ("logits",)
    assert executor.steps[0].inputs == ("x", "w1")
    assert executor.steps[0].op == "relax.nn.conv2d"


def test_trace_agrees_with_run(small):
    executor = Executor(small)
    x = torch.from_numpy(noise(2, 3, 6, 6))
    trace = executor.trace([x])
    assert set(trace) == {"x", "conv", "bn0", "act", "res", "pool", "logits"}
    torch.testing.assert_close(trace["logits"], executor.run([x])[0], rtol=0, atol=0)


def test_before_changes_what_a_step_reads(small):
    executor = Executor(small)
    x = torch.from_numpy(noise(1, 3, 6, 6))
    expected = executor.run([x], params={"w2": executor.params["w2"] * 3})[0]
    got = executor.run([x], before=lambda step, values: [values[0], values[1] * 3] if step.name == "logits" else values)[0]
    torch.testing.assert_close(got, expected, rtol=0, atol=0)


def test_wrong_inputs_and_names_are_refused(small):
    executor = Executor(small)
    with pytest.raises(InputError, match="got 2 inputs, expected 1"):
        executor.run([torch.zeros(1), torch.zeros(1)])
    with pytest.raises(InputError, match=r"input x has shape \[1, 3, 6, 5\], expected \['N', 3, 6, 6\]"):
        executor.run([torch.zeros(1, 3, 6, 5)])
    with pytest.raises(InputError, match="no parameter"):
        executor.run([torch.zeros(1, 3, 6, 6)], params={"w3": torch.zeros(1)})


def test_unknown_operator_is_named():
    model = network(lambda emit, x: R.cumsum(x, 1), [(1, 3)])
    with pytest.raises(UnsupportedError, match=r"relax.cumsum \(variable gv\)"):
        Executor(model)


@pytest.mark.parametrize("body", [lambda emit, x: R.reshape(x, (3, 4)), lambda emit, x: R.squeeze(x, [0])])
def test_batch_that_cannot_be_followed_is_refused(body):
    executor = Executor(network(body, [(1, 12)]))
    assert executor.run([torch.zeros(1, 12)])[0].numel() == 12
    with pytest.raises(UnsupportedError, match="batch"):
        executor.run([torch.zeros(2, 12)])


def test_values_are_dropped_after_their_last_use():
    model = network(lambda emit, x: R.exp(emit(R.tanh(emit(R.exp(emit(R.tanh(x))))))), [(1, 64)])
    seen: dict[str, weakref.ref] = {}
    alive: list[int] = []

    def observe(name, value):
        seen[name] = weakref.ref(value)
        alive.append(sum(ref() is not None for ref in seen.values()))

    Executor(model).run([torch.zeros(1, 64)], observe=observe)
    # the caller's input, what the step reads, and what it made
    assert len(alive) == 5 and max(alive) <= 3


class Varied(torch.nn.Module):
    """Squeeze-and-excite, channel shuffle, normalisations before and behind layers, hardswish, upsampling, flatten into dense layers."""

    def __init__(self):
        super().__init__()
        nn = torch.nn
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.Hardswish())
        self.depthwise = nn.Sequential(nn.Conv2d(8, 8, 3, 1, 1, groups=8), nn.BatchNorm2d(8), nn.ReLU6())
        self.excite = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(8, 4, 1), nn.SiLU(), nn.Conv2d(4, 8, 1), nn.Hardsigmoid())
        self.normal = nn.BatchNorm2d(8)
        self.grouped = nn.Conv2d(8, 8, 3, padding=1, groups=2)
        self.shortcut = nn.Conv2d(8, 8, 1, bias=False)
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(8 * 4 * 4, 10), nn.BatchNorm1d(10), nn.LeakyReLU(0.2), nn.Linear(10, 5))

    def forward(self, x):
        x = self.stem(x)
        x = x + self.depthwise(x) * self.excite(x)
        left, right = torch.relu(self.normal(x)).chunk(2, 1)
        y = torch.cat([left, torch.sigmoid(right)], 1)
        y = y.reshape(y.shape[0], 2, 4, *y.shape[2:]).transpose(1, 2).reshape(y.shape)
        y = torch.nn.functional.interpolate(self.grouped(torch.nn.functional.max_pool2d(y, 2)), scale_factor=2.0)
        return self.head(torch.nn.functional.avg_pool2d(y + self.shortcut(x), 2))


def test_torch_network_in_canonical_and_deploy_form():
    generator = torch.Generator().manual_seed(0)
    module = Varied().eval()
    with torch.no_grad():
        for tensor in (*module.parameters(), *module.buffers()):
            if tensor.is_floating_point():
                tensor.copy_(torch.rand(tensor.shape, generator=generator) * 0.5 + 0.1)
                if tensor.ndim > 1:
                    tensor.copy_(torch.randn(tensor.shape, generator=generator) * 0.3)
    x = torch.randn(3, 3, 16, 16, generator=generator)
    model = load(module, (x[:1],))
    deployed = to_channels_last(fold_batch_norm(model))
    with torch.no_grad():
        expected = module(x)
    bound = 1e-5 * float(expected.abs().max())
    for form in (model, deployed):
        torch.testing.assert_close(Executor(form).run([x])[0], expected, rtol=1e-5, atol=bound)
    ops = [step.op for step in Executor(deployed).steps]
    # one for the input, one for the shuffle; the dense layer takes the image as it lies
    assert ops.count("relax.permute_dims") == 2 and "relax.nn.batch_norm" not in ops
    names = {layer.name for layer in Executor(model).layers}
    assert names == {name for name, value in module.named_parameters() if value.ndim > 1}
    assert names | {"normal.weight"} == {layer.name for layer in Executor(deployed).layers}
