"""Every island becomes one kernel call; what is left around them is what the plan says runs in float."""

from __future__ import annotations

import re

import numpy as np
import pytest
from tvm import relax, tirx
from tvm.script import ir as I
from tvm.script import relax as R

from tests.passes.annotated_case import lowered, model_of, operators, quantized
from tests.passes.islands_network import model
from tvm_rsq.compiler import compile_exposed
from tvm_rsq.passes.lower_islands import KernelCall

IN_ORDER = [
    ("image", ""), ("hidden", "w"), ("bounded", "w2"), ("swish", ""), ("difference", ""), ("scaled", ""), ("joined", ""), ("positive", ""),
    ("pooled", ""), ("features", ""), ("logits", "w3"),
]  # fmt: skip


def test_one_kernel_for_each_island_in_order():
    _, calls = lowered(quantized(model()))
    assert [(call.tensor.removesuffix("_q"), call.layer) for call in calls] == IN_ORDER
    # Which algorithm makes a convolution depends on the CPU that is compiled for.
    kinds = [re.sub(r"winograd\d", "conv2d", call.kernel.split("_")[0]) for call in calls]
    assert kinds == ["quantize", "conv2d", "conv2d", "lookup", "add", "multiply", "concat", "clamp", "max", "reduce", "dense"]


@pytest.mark.parametrize("bits", [8, 4])
def test_nothing_but_kernels_and_the_named_float_operators_is_left(bits):
    found = quantized(model(), activation_bits=bits)
    mod, calls = lowered(found)
    left = [name for name in operators(mod) if name not in ("call_tir", "reshape")]
    assert left == [island.op for island in found.plan.float_islands] == ["nn.softmax"]
    assert operators(mod).count("call_tir") == len(calls)


def test_no_parameter_is_read_and_every_kernel_is_scheduled_and_left_alone():
    found = quantized(model())
    text = found.annotated.module.script(show_meta=True)
    mod, _ = lowered(found)
    assert [var.name for var in mod["main"].params] == ["x"]
    kernels = [function for _, function in mod.functions_items() if isinstance(function, tirx.PrimFunc)]
    assert len(kernels) == 11 and all(int(kernel.attrs["tirx.is_scheduled"]) and int(kernel.attrs["op_pattern"]) == 8 for kernel in kernels)
    assert found.annotated.module.script(show_meta=True) == text


def test_equal_kernels_share_one_function():
    @I.ir_module
    class Twice:
        @R.function
        def main(x: R.Tensor((1, 4, 4, 8), "float32"), w: R.Tensor((8, 1, 1, 8), "float32"), v: R.Tensor((8, 1, 1, 8), "float32")):
            R.func_attr({"num_input": 1})
            with R.dataflow():
                a = R.nn.conv2d(x, w, data_layout="NHWC", kernel_layout="OHWI")
                b = R.nn.relu(a)
                p = R.nn.max_pool2d(b, pool_size=[1, 1], layout="NHWC")
                q = R.nn.max_pool2d(p, pool_size=[1, 1], layout="NHWC")
                c = R.nn.conv2d(q, v, data_layout="NHWC", kernel_layout="OHWI")
                R.output(c)
            return c

    mod, calls = lowered(quantized(model_of(Twice)))
    assert [call.kernel for call in calls].count("max_pool2d") == 2
    assert [var.name_hint for var in mod.get_global_vars()].count("max_pool2d") == 1


@pytest.mark.parametrize("shape", [(1, 3, 8, 8), (1, 6, 6, 6)])
def test_the_permutation_of_an_image_is_part_of_its_quantization(shape):
    builder = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType(shape, "float32"))
    w = relax.Var("w", relax.TensorType((4, 1, 1, shape[1]), "float32"))
    with builder.function("main", [x, w], attrs={"num_input": 1}):
        with builder.dataflow():
            image = builder.emit(relax.op.permute_dims(x, [0, 2, 3, 1]), name_hint="image")
            out = builder.emit_output(relax.op.nn.conv2d(image, w, data_layout="NHWC", kernel_layout="OHWI"), name_hint="out")
        builder.emit_func_output(out)
    found = quantized(model_of(builder.get()))
    mod, calls = lowered(found)
    assert [call.kernel.split("_")[0] for call in calls][0] == "quantize" and len(calls) == 2
    image = np.random.default_rng(3).standard_normal(shape).astype(np.float32)
    np.testing.assert_allclose(found.compile("llvm").run(image), found.simulate(image), rtol=1e-5, atol=1e-6)


def test_what_is_computed():
    found = quantized(model())
    image = np.random.default_rng(2).standard_normal((1, 3, 8, 8)).astype(np.float32)
    probabilities, *stored = compile_exposed(found).run(image)
    tensors = found.simulate_tensors(image)
    for name, values in zip(found.plan.tensors, stored, strict=True):
        np.testing.assert_array_equal(values, tensors[name], err_msg=name)
    np.testing.assert_allclose(probabilities, found.simulate(image), rtol=1e-5)


def test_the_symbol_of_a_call_is_a_c_name():
    assert KernelCall(tensor="t", layer="", kernel="conv2d-x.y").symbol == "conv2d_x_y"
