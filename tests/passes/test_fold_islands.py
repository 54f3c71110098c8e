from __future__ import annotations

from tvm.ir import assert_structural_equal
from tvm.script import ir as I
from tvm.script import relax as R

from tests.passes.test_annotate_qdq import After
from tvm_rsq.passes.dataflow import operator_of
from tvm_rsq.passes.fold_islands import fold_islands
from tvm_rsq.passes.island_view import IslandView


@I.ir_module
class Folded:
    @R.function(private=True)
    def conv2d_w(
        x_q: R.Tensor((1, 4, 4, 8), "uint8"), w: R.Tensor((8, 1, 1, 8), "int8"), b: R.Tensor((8,), "int32")
    ) -> R.Tensor((1, 4, 4, 8), "uint8"):
        R.func_attr({"rsq.kind": "conv2d", "rsq.layer": "w", "rsq.tensor": "y"})
        with R.dataflow():
            x_dq = R.dequantize(x_q, R.const(0.5, "float32"), R.const(7, "uint8"), axis=-1, out_dtype="float32")
            w_dq = R.dequantize(w, R.const(0.25, "float32"), R.const(0, "int8"), axis=0, out_dtype="float32")
            conv = R.nn.conv2d(x_dq, w_dq, data_layout="NHWC", kernel_layout="OHWI")
            b_dq = R.dequantize(b, R.const(0.125, "float32"), R.const(0, "int32"), axis=0, out_dtype="float32")
            out = R.add(conv, b_dq)
            y = R.nn.relu(out)
            y_q = R.quantize(y, R.const(2.0, "float32"), R.const(0, "uint8"), axis=-1, out_dtype="uint8")
            y_q6 = R.clip(y_q, 0, 63)
            R.output(y_q6)
        return y_q6


def test_a_layer_from_stored_input_to_stored_output_is_one_function():
    before = After.script()
    folded = fold_islands(After)
    assert_structural_equal(folded["conv2d_w"], Folded["conv2d_w"], map_free_vars=True)
    assert After.script() == before


def test_main_is_left_with_the_quantize_of_the_input_and_what_runs_in_float():
    folded = fold_islands(After)
    values = [binding.value for block in folded["main"].body.blocks for binding in block.bindings]
    assert [operator_of(value) for value in values] == ["quantize", "call", "dequantize", "nn.max_pool2d", "call"]


def test_an_island_is_read_back_with_its_quantization():
    island = IslandView(fold_islands(After), "conv2d_w")
    assert (island.kind, island.layer, island.tensor) == ("conv2d", "w", "y")
    assert island.affine("x_q") == (0.5, 7, 255) and island.output == (2.0, 0, 63)
    assert island.quantized_clamp() == (0, 63) and island.out_dtype == "uint8"
