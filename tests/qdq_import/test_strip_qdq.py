"""QDQ graphs, node by node: the float network that they stand for, and what is refused."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

import tvm_rsq
from tests.qdq_networks import CONSTANTS, WEIGHT, network, nodes
from tvm_rsq.errors import ConfigError, ModelError, UnsupportedError

SAMPLES = np.random.default_rng(0).standard_normal((2, 6)).astype(np.float32)


def answer(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    return ReferenceEvaluator(model).run(None, {"x": x})[0]


def agrees(model: onnx.ModelProto, step: float = 0.0) -> tvm_rsq.QuantizedModel:
    x = np.random.default_rng(3).standard_normal((5, 6)).astype(np.float32)
    found = tvm_rsq.quantize(model, calibration=x)
    for row in x:
        wanted = answer(model, row[None])
        assert np.abs(found.simulate(row[None]) - wanted).max() <= step / 2 + 1e-5 * np.abs(wanted).max()
    return found


SECOND = {"w2": np.random.default_rng(1).integers(-127, 128, (4, 4)).astype(np.int8)}
TWO_LAYERS = (
    helper.make_node("QuantizeLinear", ["h", "sh", "zh"], ["hq"]),
    helper.make_node("DequantizeLinear", ["hq", "sh", "zh"], ["hr"]),
    helper.make_node("DequantizeLinear", ["w2", "sw", "zw"], ["w2r"]),
    helper.make_node("MatMul", ["hr", "w2r"], ["y"]),
)


def test_a_relu_that_the_quantization_does_is_in_the_float_network_too():
    """Zero point 0 clips what is negative: quantizers leave the relu in front of it out."""
    model = network(nodes(*TWO_LAYERS, result="h"), CONSTANTS | SECOND)
    found = agrees(model)
    x = np.random.default_rng(9).standard_normal((1, 6)).astype(np.float32)
    w, w2 = WEIGHT * np.float32(0.01), SECOND["w2"] * np.float32(0.01)
    assert np.allclose(tvm_rsq.build_float(found).run(x), np.maximum(x @ w, 0) @ w2, atol=1e-4)


def test_no_relu_where_nothing_is_negative():
    relu = [helper.make_node("Relu", ["g"], ["h"])]
    found = agrees(network([*nodes(result="g"), *relu, *TWO_LAYERS], CONSTANTS | SECOND))
    assert found.model.module.script().count("nn.relu") == 1


def test_a_product_in_front_of_what_is_quantized_is_not_folded_into_the_layer_behind():
    """Which has its integers, and whose input would be another tensor."""
    product = helper.make_node("Mul", ["x", "by"], ["scaled"])
    first, *others = nodes()
    quantize = helper.make_node("QuantizeLinear", ["scaled", "sx", "zx"], list(first.output))
    by = np.array([0.3, 1, 2, 0.1, 0.7, 1.5], np.float32)
    found = agrees(network([product, quantize, *others], CONSTANTS | {"by": by}))
    assert [(name, quant.zero_point) for name, quant in found.plan.tensors.items()] == [("multiply", 128)]


def test_weights_that_the_graph_quantizes_scales_as_constant_nodes_and_integers_that_are_moved():
    rng = np.random.default_rng(4)
    weight = rng.standard_normal((4, 6)).astype(np.float32)
    made = [
        helper.make_node("Constant", [], ["sx"], value=numpy_helper.from_array(np.float32(0.02))),
        helper.make_node("QuantizeLinear", ["x", "sx", "zx"], ["xq"]),
        helper.make_node("Reshape", ["xq", "shape"], ["xm"]),
        helper.make_node("DequantizeLinear", ["xm", "sx", "zx"], ["xr"]),
        helper.make_node("QuantizeLinear", ["w", "sw", "zw"], ["wq"], axis=0),
        helper.make_node("DequantizeLinear", ["wq", "sw", "zw"], ["wr"], axis=0),
        helper.make_node("Gemm", ["xr", "wr"], ["y"], transB=1),
    ]
    scales = (np.abs(weight).max(1) / 100).astype(np.float32)
    constants = {"zx": np.uint8(100), "w": weight, "sw": scales, "zw": np.zeros(4, np.int8), "shape": np.array([1, 6])}
    found = agrees(network(made, constants))
    assert found.plan.layers[0].name == "w" and found.plan.layers[0].weight_scale == tuple(scales.tolist())


def test_unsigned_weights_and_signed_activations():
    constants = CONSTANTS | {"zx": np.int8(-3), "w": (WEIGHT.astype(np.int16) + 128).astype(np.uint8), "zw": np.uint8(128)}
    found = agrees(network(nodes(), constants))
    assert [quant.zero_point for quant in found.plan.tensors.values()][0] == 125


def test_minus_128_becomes_minus_127_and_is_said():
    weight = WEIGHT.copy()
    weight[2, 1] = -128
    found = tvm_rsq.quantize(network(nodes(), CONSTANTS | {"w": weight}), calibration=SAMPLES)
    assert any("1 weights of -128 became -127" in note for note in found.plan.notes)


def replaced(index: int, *new: onnx.NodeProto) -> list[onnx.NodeProto]:
    made = nodes()
    return [*made[:index], *new, *made[index + 1 :]]


def two_products(*weights: onnx.NodeProto) -> list[onnx.NodeProto]:
    """Of x, by wa and wb, summed to y."""
    return [
        *nodes()[:2], *weights, helper.make_node("MatMul", ["xr", "wa"], ["ya"]), helper.make_node("MatMul", ["xr", "wb"], ["yb"]),
        helper.make_node("Add", ["ya", "yb"], ["y"]),
    ]  # fmt: skip


def test_one_constant_read_by_two_scales_is_two_weights():
    weight = np.random.default_rng(7).standard_normal((6, 4)).astype(np.float32)
    made = two_products(
        helper.make_node("QuantizeLinear", ["f", "sw", "zw"], ["fq"]),
        helper.make_node("DequantizeLinear", ["fq", "sw", "zw"], ["wa"]),
        helper.make_node("DequantizeLinear", ["fq", "sh", "zw"], ["wb"]),
    )
    found = tvm_rsq.quantize(network(made, CONSTANTS | {"f": weight}), calibration=SAMPLES)
    assert [layer.weight_scale[0] for layer in found.plan.layers] == pytest.approx([0.01, 0.05])
    integers = np.clip(np.rint(weight / np.float32(0.01)), -128, 127)
    for layer, scale in zip(found.plan.layers, (0.01, 0.05), strict=True):
        assert np.allclose(found.model.params[layer.name], integers * np.float32(scale))


def test_a_tensor_that_is_quantized_twice_is_said():
    second = [
        helper.make_node("QuantizeLinear", ["x", "sh", "zx"], ["xq2"]), helper.make_node("DequantizeLinear", ["xq2", "sh", "zx"], ["xr2"]),
    ]  # fmt: skip
    weights = [helper.make_node("DequantizeLinear", ["w", "sw", "zw"], [name]) for name in ("wa", "wb")]
    made = two_products(*second, *weights)
    made[-2].input[0] = "xr2"
    found = tvm_rsq.quantize(network(made, CONSTANTS), calibration=SAMPLES)
    assert any(note == "1 value has several scales in the file, of which one is used: x" for note in found.plan.notes)


def test_integers_that_only_some_readers_clip_are_refused():
    clip = helper.make_node("Clip", ["xq", "low", "high"], ["xc"])
    weights = [helper.make_node("DequantizeLinear", ["w", "sw", "zw"], [name]) for name in ("wa", "wb")]
    made = two_products(clip, helper.make_node("DequantizeLinear", ["xc", "sx", "zx"], ["xr2"]), *weights)
    made[-2].input[0] = "xr2"
    constants = CONSTANTS | {"zx": np.uint8(7), "low": np.uint8(0), "high": np.uint8(15)}
    with pytest.raises(UnsupportedError, match="clips integers that are read without it"):
        tvm_rsq.quantize(network(made, constants), calibration=SAMPLES)


IN_TURN = [
    helper.make_node("QuantizeLinear", ["xr", "s2", "z2"], ["xq2"]), helper.make_node("DequantizeLinear", ["xq2", "s2", "z2"], ["xr2"]),
]  # fmt: skip


def in_turn(scale: float, zero: int, *more: onnx.NodeProto) -> onnx.ModelProto:
    """x is quantized a second time."""
    made = nodes()
    first = [node for node in made if node.op_type != "MatMul"]
    (product,) = (node for node in made if node.op_type == "MatMul")
    product.input[0] = "xr2"
    return network([*first, *IN_TURN, *more, product], CONSTANTS | {"s2": np.float32(scale), "z2": np.asarray(zero, CONSTANTS["zx"].dtype)})


def test_of_two_quantizations_in_turn_the_coarser_counts_where_it_is_the_narrower():
    step, zero = float(CONSTANTS["sx"]), int(CONSTANTS["zx"])
    for scale, z in ((step, zero), (step * 0.9999, zero)):
        found = agrees(in_turn(scale, z), step=step)
        assert next(iter(found.plan.tensors.values())).scale == pytest.approx(step)


@pytest.mark.parametrize("ratio", [3.0, 1 / 64])
def test_two_quantizations_in_turn_that_no_single_one_does_are_refused(ratio):
    """One rounds more coarsely, the other clips more."""
    with pytest.raises(UnsupportedError, match=r"quantizes to .* in steps of .* what was quantized to .*, expected one scale; leave one"):
        tvm_rsq.quantize(in_turn(float(CONSTANTS["sx"]) * ratio, int(CONSTANTS["zx"])), calibration=SAMPLES)


def test_integers_that_are_moved_before_some_readers_clip_them_are_refused():
    """The reader without is in front of the move, so that what is moved has one."""
    moved = [helper.make_node("Transpose", ["xq"], ["xt"], perm=[0, 1]), helper.make_node("Clip", ["xt", "low", "high"], ["xc"])]
    weights = [helper.make_node("DequantizeLinear", ["w", "sw", "zw"], [name]) for name in ("wa", "wb")]
    made = two_products(*moved, helper.make_node("DequantizeLinear", ["xc", "sx", "zx"], ["xr2"]), *weights)
    made[-2].input[0] = "xr2"
    constants = CONSTANTS | {"zx": np.uint8(7), "low": np.uint8(0), "high": np.uint8(15)}
    with pytest.raises(UnsupportedError, match="clips integers that are read without it"):
        tvm_rsq.quantize(network(made, constants), calibration=SAMPLES)


def test_integers_are_no_sign_that_what_they_stand_for_is_not_negative():
    """A relu was left out in front of h, whose operand is a sum with a constant stored as uint8 around 128."""
    constants = CONSTANTS | SECOND | {"k": np.array([[100, 150, 90, 128]], np.uint8), "zk": np.uint8(128)}
    add = [
        helper.make_node("Relu", ["g"], ["p"]), helper.make_node("DequantizeLinear", ["k", "sh", "zk"], ["kr"]),
        helper.make_node("Add", ["p", "kr"], ["h"]),
    ]  # fmt: skip
    found = tvm_rsq.quantize(network([*nodes(result="g"), *add, *TWO_LAYERS], constants), calibration=SAMPLES)
    assert found.model.module.script().count("nn.relu") == 2


def test_zero_points_of_zero_may_be_left_out():
    quantize = helper.make_node("QuantizeLinear", ["x", "sx"], ["xq"], output_dtype=onnx.TensorProto.INT8)
    made = [quantize, helper.make_node("DequantizeLinear", ["xq", "sx"], ["xr"]), *nodes()[2:]]
    assert next(iter(agrees(network(made, CONSTANTS, opset=21)).plan.tensors.values())).zero_point == 128


def quantize_by(scale: str) -> onnx.NodeProto:
    return helper.make_node("QuantizeLinear", ["x", scale, "zx"], ["xq"])


REFUSED = {
    "scale at run time": (
        UnsupportedError, "computes its scale at run time",
        lambda: network([helper.make_node("ReduceMax", ["x"], ["made"], keepdims=0), *replaced(0, quantize_by("made"))], CONSTANTS),
    ),
    "16 bits": (UnsupportedError, "stores uint16", lambda: network(nodes(), CONSTANTS | {"zx": np.uint16(9)}, opset=21)),
    "scales of channels": (
        UnsupportedError, "beside an activation with 6 scales, .* expected a depthwise",
        lambda: network(nodes(), CONSTANTS | {"sx": np.full(6, 0.02, np.float32), "zx": np.zeros(6, np.uint8)}),
    ),
    "asymmetric weight": (UnsupportedError, "layer wr have a zero point \\+5", lambda: network(nodes(), CONSTANTS | {"zw": np.int8(5)})),
    "other scale behind": (
        UnsupportedError, "another scale, zero point or dtype",
        lambda: network(replaced(1, helper.make_node("DequantizeLinear", ["xq", "sw", "zx"], ["xr"])), CONSTANTS),
    ),
    "integer arithmetic": (
        UnsupportedError, "MatMulInteger .* computes with integers",
        lambda: network([*nodes()[:1], helper.make_node("MatMulInteger", ["xq", "w"], ["y"])], CONSTANTS),
    ),
    "computes with integers": (
        UnsupportedError, "operator Relu .* computes with integers",
        lambda: network(replaced(1, helper.make_node("Relu", ["xq"], ["xp"]), nodes()[1]), CONSTANTS),
    ),
    "blocks": (
        UnsupportedError, "a scale for each block",
        lambda: network(replaced(2, helper.make_node("DequantizeLinear", ["w", "sw", "zw"], ["wr"], block_size=2)), CONSTANTS, opset=21),
    ),
    "scale of zero": (ModelError, "not finite and positive", lambda: network(nodes(), CONSTANTS | {"sx": np.float32(0)})),
    "scale that is text": (ModelError, "expected float", lambda: network(nodes(), CONSTANTS | {"sx": np.array("much")})),
    "scale beyond float32": (ModelError, "not finite and positive", lambda: network(nodes(), CONSTANTS | {"sx": np.float64(1e-60)})),
    "clip at nothing": (
        UnsupportedError, "clips integers to 0.0 to None",
        lambda: network(
            replaced(1, helper.make_node("Clip", ["xq", "low", "high"], ["xr"])),
            CONSTANTS | {"low": np.uint8(0), "high": np.float32(np.nan)},
        ),
    ),
    "another domain": (
        UnsupportedError, "reads xq, expected constants or what a QuantizeLinear makes",
        lambda: network(replaced(0, helper.make_node("QuantizeLinear", ["x", "sx", "zx"], ["xq"], domain="evil")), CONSTANTS),
    ),
    "missing scale": (ModelError, "operands", lambda: network(replaced(0, helper.make_node("QuantizeLinear", ["x"], ["xq"])), CONSTANTS)),
    "scales that fit no axis": (
        ModelError, "has 5 scales along axis 1",
        lambda: network(nodes(), CONSTANTS | {"sw": np.full(5, 0.01, np.float32), "zw": np.zeros(5, np.int8)}),
    ),
    "scales of inputs": (
        UnsupportedError, "6 scales for 4 output channels",
        lambda: network(
            replaced(2, helper.make_node("DequantizeLinear", ["w", "sw", "zw"], ["wr"], axis=0)),
            CONSTANTS | {"sw": np.linspace(0.01, 0.02, 6, dtype=np.float32), "zw": np.zeros(6, np.int8)},
        ),
    ),
    "weights alone": (
        ModelError, "none for its activations", lambda: network([nodes()[2], helper.make_node("MatMul", ["x", "wr"], ["y"])], CONSTANTS),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_integer_kernels_cannot_be_is_refused_by_name(name):
    kind, message, make = REFUSED[name]
    with pytest.raises(kind, match=message) as caught:
        tvm_rsq.quantize(make(), calibration=SAMPLES)
    assert "\n" not in str(caught.value)


def test_a_configuration_that_asks_for_another_quantization_is_refused():
    with pytest.raises(ConfigError, match="weight_bits is 4, and the network brings its own"):
        tvm_rsq.quantize(network(nodes(), CONSTANTS), tvm_rsq.QuantConfig(weight_bits=4))
