from __future__ import annotations

from tvm.script import ir as I
from tvm.script import relax as R

from tests.passes.islands_network import Network
from tvm_rsq.passes.dataflow import Dataflow
from tvm_rsq.passes.find_islands import find_islands


def kinds(found):
    return {island.output: (island.kind, island.ops) for island in found.islands}


def test_every_kind_of_island_is_found():
    found = find_islands(Dataflow(Network))
    assert kinds(found) == {
        "image": ("move", ("image",)),
        "hidden": ("conv2d", ("conv", "biased", "hidden")),
        "bounded": ("conv2d", ("conv_2", "summed", "bounded")),
        "swish": ("lookup", ("gate", "swish")),
        "difference": ("sum", ("difference",)),
        "scaled": ("product", ("scaled",)),
        "joined": ("concat", ("joined",)),
        "positive": ("clamp", ("positive",)),
        "pooled": ("move", ("pooled",)),
        "features": ("mean", ("features",)),
        "logits": ("dense", ("scores", "logits")),
    }
    assert found.float_ops == ("probabilities",)


def test_only_what_integer_kernels_read_is_stored():
    stored = find_islands(Dataflow(Network)).quantized
    assert stored == ("x", "image", "hidden", "bounded", "swish", "difference", "scaled", "joined", "positive", "pooled", "features")


def test_a_layer_in_float_is_an_island_of_its_own_kind_and_asks_for_nothing():
    found = find_islands(Dataflow(Network), {"w3"})
    assert kinds(found)["logits"] == ("float_layer", ("scores", "logits"))
    assert "features" not in found.quantized and kinds(found)["features"][0] == "mean"


def test_with_all_layers_in_float_nothing_is_quantized():
    found = find_islands(Dataflow(Network), {"w", "w2", "w3"})
    assert found.quantized == () and {island.kind for island in found.islands} == {"float_layer"}


def test_the_later_of_two_layers_takes_the_residual_sum():
    @I.ir_module
    class Branches:
        @R.function
        def main(x: R.Tensor((1, 4, 4, 8), "float32"), w: R.Tensor((8, 1, 1, 8), "float32"), v: R.Tensor((8, 1, 1, 8), "float32")):
            R.func_attr({"num_input": 1})
            with R.dataflow():
                left = R.nn.conv2d(x, w, data_layout="NHWC", kernel_layout="OHWI")
                right = R.nn.conv2d(x, v, data_layout="NHWC", kernel_layout="OHWI")
                total = R.add(left, right)
                R.output(total)
            return total

    found = find_islands(Dataflow(Branches))
    assert kinds(found) == {"left": ("conv2d", ("left",)), "total": ("conv2d", ("right", "total"))}
    assert found.quantized == ("x", "left")


def test_a_tensor_that_is_read_twice_is_not_swallowed_by_its_reader():
    @I.ir_module
    class Shared:
        @R.function
        def main(x: R.Tensor((1, 4, 4, 8), "float32"), w: R.Tensor((8, 1, 1, 8), "float32"), v: R.Tensor((8, 1, 1, 8), "float32")):
            R.func_attr({"num_input": 1})
            with R.dataflow():
                conv = R.nn.conv2d(x, w, data_layout="NHWC", kernel_layout="OHWI")
                positive = R.nn.relu(conv)
                gated = R.multiply(positive, conv)
                last = R.nn.conv2d(gated, v, data_layout="NHWC", kernel_layout="OHWI")
                R.output(last)
            return last

    found = kinds(find_islands(Dataflow(Shared)))
    assert found["conv"] == ("conv2d", ("conv",)) and found["positive"] == ("clamp", ("positive",))
    assert found["gated"] == ("product", ("gated",))


def test_local_response_normalisation_stays_in_float_as_a_whole():
    @I.ir_module
    class Normalised:
        @R.function
        def main(x: R.Tensor((1, 4, 4, 8), "float32"), w: R.Tensor((8, 1, 1, 8), "float32"), v: R.Tensor((8, 1, 1, 8), "float32")):
            R.func_attr({"num_input": 1})
            with R.dataflow():
                conv = R.nn.conv2d(x, w, data_layout="NHWC", kernel_layout="OHWI")
                square = R.multiply(conv, conv)
                total = R.sum(square, axis=[3], keepdims=True)
                shifted = R.add(total, R.const(1.0, "float32"))
                rooted = R.sqrt(shifted)
                normal = R.divide(conv, rooted)
                last = R.nn.conv2d(normal, v, data_layout="NHWC", kernel_layout="OHWI")
                R.output(last)
            return last

    found = find_islands(Dataflow(Normalised))
    assert found.float_ops == ("square", "total", "shifted", "rooted", "normal")
    assert found.quantized == ("x", "normal"), "the convolution in front leaves its accumulators in float"
