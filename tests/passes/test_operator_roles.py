# ruff: noqa: F841 (TVMScript: every binding is looked at by its name)
"""What each operator can be on the integer path."""

from __future__ import annotations

import torch
from tvm.script import ir as I
from tvm.script import relax as R

from tvm_rsq.executor_ops import operators
from tvm_rsq.passes import operator_roles as roles
from tvm_rsq.passes.dataflow import Dataflow


@I.ir_module
class Cases:
    @R.function
    def main(
        x: R.Tensor((1, 6, 6, 8), "float32"),
        w: R.Tensor((8, 1, 1, 8), "float32"),
        b: R.Tensor((8,), "float32"),
        image: R.Tensor((1, 6, 6, 8), "float32"),
        row: R.Tensor((1, 1, 6, 1), "float32"),
    ):
        R.func_attr({"num_input": 1})
        with R.dataflow():
            conv = R.nn.conv2d(x, w, data_layout="NHWC", kernel_layout="OHWI")
            bias = R.add(conv, b)
            table = R.add(bias, image)
            rows = R.add(table, row)
            turned = R.permute_dims(rows, axes=[0, 1, 3, 2])
            product = R.matmul(rows, turned)
            zeros = R.nn.pad(x, pad_width=[0, 0, 1, 1, 1, 1, 0, 0])
            ones = R.nn.pad(x, pad_width=[0, 0, 1, 1, 1, 1, 0, 0], pad_value=1.0)
            mirrored = R.nn.pad(x, pad_width=[0, 0, 1, 1, 1, 1, 0, 0], pad_mode="reflect")
            nearest = R.image.resize2d(x, size=[12, 12], layout="NHWC", method="nearest_neighbor")
            linear = R.image.resize2d(x, size=[12, 12], layout="NHWC", method="linear")
            even = R.nn.adaptive_avg_pool2d(x, output_size=[1, 1], layout="NHWC")
            uneven = R.nn.adaptive_avg_pool2d(x, output_size=[4, 4], layout="NHWC")
            everything = R.mean(x, axis=[1, 2])
            largest = R.maximum(x, R.const(0.5, "float32"))
            R.output(product)
        return product


view = Dataflow(Cases)


def names(role):
    return {node.name for node in view.nodes.values() if role(node)}


def test_layers_have_a_weight():
    assert names(lambda node: roles.is_layer(view, node)) == {"conv"}


def test_a_bias_varies_along_the_channels_only():
    assert names(lambda node: roles.is_bias_add(view, node)) == {"bias"}


def test_copies_of_values_keep_the_scale():
    assert names(roles.keeps_scale) == {"turned", "zeros", "nearest"}


def test_means_have_a_kernel_where_every_window_has_one_size():
    assert names(lambda node: roles.is_spatial_mean(view, node)) == {"even", "everything"}


def test_constants_that_are_scalars():
    assert "largest" in names(roles.scalar_only) and "bias" in names(roles.scalar_only)


def test_the_roles_do_not_overlap():
    groups = [roles.LAYERS, roles.ELEMENTWISE, roles.MOVES, roles.REDUCTIONS, roles.CONCATS]
    assert len(frozenset().union(*groups)) == sum(len(group) for group in groups)
    assert roles.CLAMPS | roles.SUMS | roles.PRODUCTS <= roles.ELEMENTWISE


def test_the_executor_evaluates_every_element_wise_operator():
    assert {f"relax.{name}" for name in roles.ELEMENTWISE} <= operators(torch.float32).keys()
