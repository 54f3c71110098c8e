from __future__ import annotations

import numpy as np
import pytest
from tvm.ir import assert_structural_equal
from tvm.script import ir as I
from tvm.script import relax as R

from tests.passes.annotated_case import quantized
from tests.passes.islands_network import Network, model, weights
from tvm_rsq.passes.annotate_qdq import LayerQuant, annotate_qdq
from tvm_rsq.passes.dataflow import Dataflow
from tvm_rsq.passes.find_islands import find_islands
from tvm_rsq.passes.fold_islands import fold_islands
from tvm_rsq.tensor_quant import TensorQuant


@I.ir_module
class Before:
    @R.function
    def main(
        x: R.Tensor((1, 4, 4, 8), "float32"),
        w: R.Tensor((8, 1, 1, 8), "float32"),
        b: R.Tensor((8,), "float32"),
        v: R.Tensor((8, 1, 1, 8), "float32"),
    ):
        R.func_attr({"num_input": 1})
        with R.dataflow():
            conv = R.nn.conv2d(x, w, data_layout="NHWC", kernel_layout="OHWI")
            out = R.add(conv, b)
            y = R.nn.relu(out)
            p = R.nn.max_pool2d(y, pool_size=[2, 2], layout="NHWC")
            z = R.nn.conv2d(p, v, data_layout="NHWC", kernel_layout="OHWI")
            R.output(z)
        return z


@I.ir_module
class After:
    @R.function
    def main(
        x: R.Tensor((1, 4, 4, 8), "float32"),
        w: R.Tensor((8, 1, 1, 8), "int8"),
        b: R.Tensor((8,), "int32"),
        v: R.Tensor((8, 1, 1, 8), "float32"),
    ):
        R.func_attr({"num_input": 1})
        with R.dataflow():
            x_q = R.quantize(x, R.const(0.5, "float32"), R.const(7, "uint8"), axis=-1, out_dtype="uint8")
            x_dq = R.dequantize(x_q, R.const(0.5, "float32"), R.const(7, "uint8"), axis=-1, out_dtype="float32")
            w_dq = R.dequantize(w, R.const(0.25, "float32"), R.const(0, "int8"), axis=0, out_dtype="float32")
            b_dq = R.dequantize(b, R.const(0.125, "float32"), R.const(0, "int32"), axis=0, out_dtype="float32")
            conv = R.nn.conv2d(x_dq, w_dq, data_layout="NHWC", kernel_layout="OHWI")
            out = R.add(conv, b_dq)
            y = R.nn.relu(out)
            y_q = R.quantize(y, R.const(2.0, "float32"), R.const(0, "uint8"), axis=-1, out_dtype="uint8")
            y_q6 = R.clip(y_q, 0, 63)
            y_dq = R.dequantize(y_q6, R.const(2.0, "float32"), R.const(0, "uint8"), axis=-1, out_dtype="float32")
            p = R.nn.max_pool2d(y_dq, pool_size=[2, 2], layout="NHWC")
            z = R.nn.conv2d(p, v, data_layout="NHWC", kernel_layout="OHWI")
            R.output(z)
        return z


def test_layers_and_stored_tensors_get_their_pairs():
    params = {"w": np.ones((8, 1, 1, 8), np.float32), "b": np.ones(8, np.float32), "v": np.ones((8, 1, 1, 8), np.float32)}
    layer = LayerQuant(
        weight=np.ones((8, 1, 1, 8), np.int8), scale=np.array([0.25], np.float32), axis=0, input_scale=0.5, bias=np.ones(8, np.int32)
    )
    tensors = {"x": TensorQuant(scale=0.5, zero_point=7), "y": TensorQuant(scale=2.0, zero_point=0, bits=6)}
    before = Before.script()
    mod, quantized = annotate_qdq(Before, params, {"w": layer}, tensors)
    assert_structural_equal(mod, After, map_free_vars=True)
    assert quantized["w"].dtype == np.int8 and quantized["b"].dtype == np.int32
    assert Before.script() == before, "the module handed in must not change"


def test_without_a_plan_the_network_stays_as_it_is():
    mod, params = annotate_qdq(Network, weights(), {}, {})
    assert_structural_equal(mod, Network, map_free_vars=True)
    assert all(value.dtype == np.float32 for value in params.values())


def test_unknown_names_are_refused():
    with pytest.raises(KeyError, match="no layer or tensor called"):
        annotate_qdq(Network, weights(), {}, {"nowhere": TensorQuant(scale=1.0, zero_point=0)})


def test_the_islands_are_the_same_before_and_after():
    view = Dataflow(Network)
    islands = find_islands(view)
    layers = {
        name: LayerQuant(weight=np.ones(value.shape, np.int8), scale=np.ones(1, np.float32), axis=0, input_scale=1.0)
        for name, value in model().params.items() if name.startswith("w")
    }  # fmt: skip
    for bits in (8, 4):
        tensors = {name: TensorQuant(scale=0.1, zero_point=3, bits=bits) for name in islands.quantized}
        mod, _ = annotate_qdq(Network, weights(), layers, tensors)
        assert find_islands(Dataflow(mod)) == islands


def test_what_qdq_cannot_say_is_in_attributes_of_main_and_of_the_islands():
    plain = quantized(model()).annotated.module
    assert not {"rsq.requantize", "rsq.accumulate16"} & set(dict(plain["main"].attrs)), "defaults leave no trace"
    found = quantized(model(), overrides={"w": "requantize=shift", "w3": "accumulate16=4"}).annotated.module
    attrs = dict(found["main"].attrs)
    assert dict(attrs["rsq.requantize"]) == {"w": "shift"} and {k: int(v) for k, v in attrs["rsq.accumulate16"].items()} == {"w3": 4}
    folded = fold_islands(found)
    functions = {str(f.attrs["rsq.layer"]): dict(f.attrs) for var, f in folded.functions.items() if var.name_hint != "main"}
    assert functions["w"]["rsq.requantize"] == "shift" and "rsq.accumulate16" not in functions["w"]
    assert int(functions["w3"]["rsq.accumulate16"]) == 4 and "rsq.requantize" not in functions["w3"]
