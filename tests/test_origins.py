from __future__ import annotations

from tvm.script import ir as I
from tvm.script import relax as R

from tvm_rsq.origins import origins
from tvm_rsq.passes.dataflow import Dataflow
from tvm_rsq.passes.find_islands import find_islands


@I.ir_module
class Network:
    @R.function
    def main(x: R.Tensor((1, 4, 4, 8), "float32"), w: R.Tensor((8, 1, 1, 8), "float32"), v: R.Tensor((8, 1, 1, 40), "float32")):
        R.func_attr({"num_input": 1})
        with R.dataflow():
            a = R.nn.conv2d(x, w, data_layout="NHWC", kernel_layout="OHWI")
            pool = R.nn.max_pool2d(a, pool_size=[3, 3], padding=[1, 1, 1, 1], layout="NHWC")
            shared = R.nn.conv2d(x, w, data_layout="NHWC", kernel_layout="OHWI")
            table = R.sigmoid(shared)
            inner = R.concat((a, pool), axis=3)
            outer = R.concat((inner, shared, table, x), axis=3)
            out = R.nn.conv2d(outer, v, data_layout="NHWC", kernel_layout="OHWI")
            R.output(out)
        return out


def found(own=("x",)):
    view = Dataflow(Network)
    return origins(view, find_islands(view), own)


def test_what_only_concatenations_read_takes_their_quantization():
    assert found() == {
        "x": "x", "a": "outer", "pool": "outer", "inner": "outer", "shared": "shared", "table": "outer", "outer": "outer",
    }  # fmt: skip


@I.ir_module
class HalfLeaves:
    """A piece of the split goes into a concatenation of integers, the other out of the network, in float."""

    @R.function
    def main(x: R.Tensor((1, 4, 4, 3), "float32"), w: R.Tensor((8, 1, 1, 2), "float32")):
        R.func_attr({"num_input": 1})
        with R.dataflow():
            largest = R.nn.max_pool2d(x, pool_size=[4, 4], layout="NHWC")
            split = R.split(largest, indices_or_sections=[2], axis=3)
            leaves = split[0]
            stays = split[1]
            both = R.concat((stays, stays), axis=3)
            out = R.nn.conv2d(both, w, data_layout="NHWC", kernel_layout="OHWI")
            R.output(leaves, out)
        return (leaves, out)


def test_what_leaves_in_float_beside_a_concatenation_keeps_its_own_range():
    view = Dataflow(HalfLeaves)
    made = origins(view, find_islands(view), ())
    assert made["largest"] == made["x"] != made["both"], made


def test_a_tensor_that_keeps_its_own_keeps_that_of_what_is_moved_from_it():
    assert found(("x", "a")) == {**found(), "a": "a", "pool": "a"}
