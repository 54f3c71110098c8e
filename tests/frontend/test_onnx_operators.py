"""Every operator that the ONNX frontend takes: the import computes what onnx's reference implementation computes."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator
from onnx_networks import around, node, noise
from plain_compile import run_model

from tvm_rsq.errors import UnsupportedError
from tvm_rsq.frontend import load
from tvm_rsq.frontend.operators import CANONICAL_OPERATORS
from tvm_rsq.passes.rewrite_bindings import operator_name

INTS = np.int64
W3 = noise(6, 4, 3, 3, seed=2)
STATISTICS = {"s": noise(4), "b": noise(4, seed=3), "m": noise(4, seed=4), "v": np.abs(noise(4, seed=5)) + 0.5}
DENSE = noise(324, 5, seed=6) / 18


def softmax_of_flattened(x):
    """Up to opset 12, Softmax with axis 1 normalises over all axes behind the first."""
    powers = np.exp(x - x.max(axis=(1, 2, 3), keepdims=True))
    return powers / powers.sum(axis=(1, 2, 3), keepdims=True)


def doubled(x):
    return x.repeat(2, axis=2).repeat(2, axis=3)


def normalized(x):
    parts = (STATISTICS[name].reshape(-1, 1, 1) for name in "sbmv")
    scale, offset, mean, variance = parts
    return (x - mean) / np.sqrt(variance + np.float32(1e-5)) * scale + offset


# name -> (nodes, weights, further arguments of `around`). "expected" is a function of the operator's input where onnx's reference
# is of no use: it takes the newer meaning of Softmax and Resize for the older opsets, trains BatchNormalization of opset 9, and its
# LRN confuses batch and channels, which are therefore equal in number here.
OPERATORS = {
    "conv asymmetric": ([node("Conv", ["x", "w"], pads=[0, 1, 2, 1], strides=[2, 1])], {"w": W3}, {}),
    "conv same upper": ([node("Conv", ["x", "w"], auto_pad="SAME_UPPER", strides=[2, 2])], {"w": W3[:, :, :2, :2].copy()}, {}),
    "conv same lower": ([node("Conv", ["x", "w"], auto_pad="SAME_LOWER", strides=[2, 2])], {"w": W3[:, :, :2, :2].copy()}, {}),
    "conv valid dilated": ([node("Conv", ["x", "w"], auto_pad="VALID", dilations=[2, 1])], {"w": W3}, {}),
    "conv depthwise": ([node("Conv", ["x", "w", "b"], group=4)], {"w": noise(4, 1, 3, 3), "b": noise(4)}, {}),
    "conv with a made weight": (
        [node("ConstantOfShape", ["shape"], ["w"], value=onnx.numpy_helper.from_array(np.float32([0.5]))), node("Conv", ["x", "w"])],
        {"shape": INTS([2, 4, 3, 3])},
        {},
    ),
    "pad and conv": ([node("Pad", ["x", "p"], ["q"]), node("Conv", ["q", "w"])], {"w": W3, "p": INTS([0, 0, 0, 1, 0, 0, 2, 1])}, {}),
    "pad of opset 9": ([node("Pad", pads=[0, 0, 0, 1, 0, 0, 2, 1], value=0.5)], {}, {"opset": 9}),
    "pad by axes": ([node("Pad", ["x", "p", "v", "a"])], {"p": INTS([1, 2]), "v": np.float32(0.5), "a": INTS([-1])}, {"opset": 19}),
    "batch norm": ([node("BatchNormalization", ["x", "s", "b", "m", "v"], epsilon=1e-3)], STATISTICS, {}),
    "batch norm of opset 9": ([node("BatchNormalization", ["x", "s", "b", "m", "v"])], STATISTICS, {"opset": 9, "expected": normalized}),
    "scale of a channel": (
        [node("Mul", ["s", "x"], ["t"]), node("Add", ["t", "o"])],
        {"s": noise(4, 1, 1), "o": noise(4, 1, 1, seed=7)},
        {},
    ),
    "relu": ([node("Relu")], {}, {}),
    "clip of opset 10": ([node("Clip", min=-0.5, max=0.25)], {}, {"opset": 10}),
    "clip by constants": ([node("Clip", ["x", "lo", "hi"])], {"lo": np.float32(-0.5), "hi": np.float32(0.25)}, {}),
    "clip from above": ([node("Clip", ["x", "", "hi"])], {"hi": np.float32(0.25)}, {}),
    "max with a scalar": ([node("Max", ["zero", "x"])], {"zero": np.float32([0])}, {}),
    "min with a scalar": ([node("Min", ["x", "zero"])], {"zero": np.float32(0)}, {}),
    "leaky relu": ([node("LeakyRelu", alpha=0.2)], {}, {}),
    "sigmoid": ([node("Sigmoid")], {}, {}),
    "tanh": ([node("Tanh")], {}, {}),
    "hardswish": ([node("HardSwish")], {}, {}),
    "hardsigmoid": ([node("HardSigmoid")], {}, {}),
    "hardsigmoid of torch": ([node("HardSigmoid", alpha=1 / 6, beta=0.5)], {}, {}),
    "gelu": ([node("Gelu")], {}, {"opset": 20}),
    "gelu tanh": ([node("Gelu", approximate="tanh")], {}, {"opset": 20}),
    "swish": ([node("Swish")], {}, {"opset": 24}),
    "swish with alpha": ([node("Swish", alpha=1.5)], {}, {"opset": 24}),
    "softmax": ([node("Softmax", axis=1)], {}, {}),
    "softmax of opset 11": ([node("Softmax", axis=1)], {}, {"opset": 11, "expected": softmax_of_flattened}),
    "subtract from a scalar": ([node("Sub", ["one", "x"])], {"one": np.float32(1)}, {}),
    "divide": ([node("Relu", ["x"], ["r"]), node("Add", ["r", "one"], ["d"]), node("Div", ["x", "d"])], {"one": np.float32(1)}, {}),
    "negate": ([node("Neg")], {}, {}),
    "power": ([node("Relu", ["x"], ["r"]), node("Pow", ["r", "e"])], {"e": np.float32(1.5)}, {}),
    "sum of three": ([node("Relu", ["x"], ["r"]), node("Sum", ["x", "r", "b"])], {"b": noise(4, 1, 1)}, {}),
    "concat": ([node("Concat", ["x", "x"], axis=-3)], {}, {}),
    "split": ([node("Split", ["x", "n"], ["a", "b"], axis=1), node("Concat", ["b", "a"], axis=1)], {"n": INTS([1, 3])}, {}),
    "split of opset 11": ([node("Split", ["x"], ["a", "b"], axis=1), node("Sub", ["b", "a"])], {}, {"opset": 11}),
    "slice": ([node("Slice", ["x", "s", "e", "a"])], {"s": INTS([1, 0]), "e": INTS([3, -1]), "a": INTS([1, -1])}, {}),
    "slice of opset 9": ([node("Slice", starts=[1], ends=[9], axes=[1])], {}, {"opset": 9}),
    "max pool": ([node("MaxPool", kernel_shape=[3, 3], strides=[2, 2], pads=[0, 1, 1, 0])], {}, {}),
    "max pool rounding up": ([node("MaxPool", kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1)], {}, {}),
    "max pool same": ([node("MaxPool", kernel_shape=[3, 2], strides=[2, 2], auto_pad="SAME_UPPER")], {}, {}),
    "avg pool": ([node("AveragePool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])], {}, {}),
    "avg pool counting pads": ([node("AveragePool", kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=1)], {}, {}),
    "avg pool same": ([node("AveragePool", kernel_shape=[2, 2], strides=[2, 2], auto_pad="SAME_LOWER")], {}, {}),
    "global pools": ([node("GlobalAveragePool", ["x"], ["a"]), node("GlobalMaxPool", ["x"], ["b"]), node("Mul", ["a", "b"])], {}, {}),
    "mean": ([node("ReduceMean", ["x", "a"], keepdims=0)], {"a": INTS([-1, 2])}, {}),
    "mean of opset 13": ([node("ReduceMean", axes=[2, 3])], {}, {"opset": 13}),
    "max of axes": ([node("ReduceMax", axes=[2, 3], keepdims=0)], {}, {"opset": 13}),
    "flatten and gemm": (
        [node("Flatten", ["x"], ["f"]), node("Gemm", ["f", "w", "b"], alpha=0.5, beta=2.0)],
        {"w": DENSE, "b": noise(1, 5)},
        {},
    ),
    "gemm transposed": ([node("Flatten", ["x"], ["f"]), node("Gemm", ["f", "w", "b"], transB=1)], {"w": DENSE.T.copy(), "b": noise(5)}, {}),
    "gemm without bias": ([node("Flatten", ["x"], ["f"]), node("Gemm", ["f", "w"])], {"w": DENSE}, {}),
    "matmul": ([node("MatMul", ["x", "w"])], {"w": noise(9, 2)}, {}),
    "reshape by shape arithmetic": (
        [
            node("Shape", ["x"], ["s"]),
            node("Gather", ["s", "i"], ["n"], axis=0),
            node("Unsqueeze", ["n", "i0"], ["n1"]),
            node("Concat", ["n1", "rest"], ["t"], axis=0),
            node("Reshape", ["x", "t"]),
        ],
        {"i": np.array(0, INTS), "i0": INTS([0]), "rest": INTS([-1])},
        {},
    ),
    "reshape copying extents": ([node("Reshape", ["x", "t"])], {"t": INTS([0, 2, -1, 9])}, {}),
    "transpose": ([node("Transpose", perm=[0, 2, 3, 1])], {}, {}),
    "squeeze and unsqueeze": (
        [node("GlobalAveragePool", ["x"], ["g"]), node("Squeeze", ["g", "a"], ["s"]), node("Unsqueeze", ["s", "b"])],
        {"a": INTS([2, 3]), "b": INTS([-1])},
        {},
    ),
    "squeeze of opset 11": ([node("GlobalAveragePool", ["x"], ["g"]), node("Squeeze", ["g"], axes=[3])], {}, {"opset": 11}),
    "upsample": ([node("Upsample", ["x", "k"], mode="nearest")], {"k": np.float32([1, 1, 2, 3])}, {"opset": 9}),
    "resize of opset 10": (
        [node("Resize", ["x", "k"], mode="nearest")],
        {"k": np.float32([1, 1, 2, 2])},
        {"opset": 10, "expected": doubled},
    ),
    "resize nearest by scales": (
        [node("Resize", ["x", "", "k"], mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor")],
        {"k": np.float32([1, 1, 2, 2])},
        {},
    ),
    "resize linear by sizes": ([node("Resize", ["x", "", "", "n"], mode="linear")], {"n": INTS([2, 4, 5, 13])}, {}),
    "resize with aligned corners": (
        [node("Resize", ["x", "", "", "n"], mode="linear", coordinate_transformation_mode="align_corners")],
        {"n": INTS([2, 4, 5, 13])},
        {},
    ),
    "local response norm": ([node("LRN", size=3, alpha=0.5, beta=0.7, bias=2.0)], {}, {"shape": (4, 3, 9, 9)}),
    "even local response norm": ([node("LRN", size=2, alpha=0.5)], {}, {"shape": (4, 3, 9, 9)}),
    "dropout and identity": ([node("Dropout", ["x"], ["d"]), node("Identity", ["d"], ["i"]), node("Relu", ["i"])], {}, {}),
    "cast to its own type": ([node("Cast", ["x"], ["c"], to=1), node("Relu", ["c"])], {}, {}),
    "conv1d": (
        [
            node("Reshape", ["x", "t"], ["r"]),
            node("Conv", ["r", "w", "b"], ["c"], pads=[1, 0]),
            node("AveragePool", ["c"], kernel_shape=[2]),
        ],
        {"t": INTS([0, 0, -1]), "w": noise(2, 4, 3), "b": noise(2)},
        {},
    ),
}


@pytest.mark.parametrize("name", OPERATORS)
def test_import_computes_what_onnx_computes(name):
    nodes, weights, options = OPERATORS[name]
    options = dict(options)
    expect = options.pop("expected", None)
    proto = around(nodes, weights, **options)
    before = proto.SerializeToString()
    x = noise(*options.get("shape", (2, 3, 9, 9)), seed=9)
    if expect is None:
        (expected,) = ReferenceEvaluator(proto).run(None, {"image": x})
    else:
        expected = expect(ReferenceEvaluator(around([node("Identity")])).run(None, {"image": x})[0])
    model = load(proto)
    (got,) = run_model(model, x)
    assert got.shape == expected.shape
    np.testing.assert_allclose(got, expected, rtol=2e-5, atol=2e-5 * max(1.0, float(np.abs(expected).max())))
    used = {operator_name(binding.value) for binding in model.module["main"].body.blocks[0].bindings}
    assert used - {""} <= CANONICAL_OPERATORS
    assert all(value.dtype == np.float32 for value in model.params.values())
    assert proto.SerializeToString() == before


REFUSED = {
    "transposed convolution": ([node("ConvTranspose", ["x", "w"])], {"w": noise(4, 2, 2, 2)}, r"ConvTranspose \(node the_ConvTranspose\)"),
    "unknown": ([node("CumSum", ["x", "a"])], {"a": np.array(1, INTS)}, r"operator CumSum \(node the_CumSum\)"),
    "reflecting pad": (
        [node("Pad", ["x", "p"], mode="reflect")],
        {"p": INTS([0, 0, 1, 1, 0, 0, 1, 1])},
        r"\(node the_Pad\): pad mode reflect",
    ),
    "cubic": ([node("Resize", ["x", "", "k"], mode="cubic")], {"k": np.float32([1, 1, 2, 2])}, "the_Resize.*cubic"),
    "uneven scale": ([node("Resize", ["x", "", "k"], mode="nearest")], {"k": np.float32([1, 1, 1.3, 2])}, "the_Resize.*whole sizes"),
    "strided slice": (
        [node("Slice", ["x", "s", "e", "a", "k"])],
        {"s": INTS([0]), "e": INTS([4]), "a": INTS([1]), "k": INTS([2])},
        "the_Slice.*step 1",
    ),
    "product of activations": ([node("MatMul", ["x", "x"])], {}, "stored weight"),
    "training batch norm": (
        [node("BatchNormalization", ["x", "s", "b", "m", "v"], ["y", "m2", "v2"], training_mode=1)],
        STATISTICS,
        "training mode",
    ),
    "shape arithmetic on activations": ([node("Sqrt")], {}, r"operator Sqrt \(node the_Sqrt\) is applied to activations"),
    "another type": ([node("Cast", ["x"], ["h"], to=10), node("Cast", ["h"], to=1)], {}, "operator Cast"),
    "maximum of activations": ([node("Relu", ["x"], ["r"]), node("Max", ["x", "r"])], {}, "maximum"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_unsupported_operator_is_named(name, capfd):
    nodes, weights, message = REFUSED[name]
    with pytest.raises(UnsupportedError, match=message) as caught:
        load(around(nodes, weights))
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().out == ""  # TVM's importer prints before it raises


def test_custom_domain_is_named():
    proto = around([node("Relu")])
    proto.graph.node[1].domain = "com.example"
    proto.opset_import.append(onnx.helper.make_opsetid("com.example", 1))
    with pytest.raises(UnsupportedError, match=r"operator com\.example\.Relu \(node the_Relu\)"):
        load(proto)
