from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import tvm
from tvm.script import ir as I
from tvm.script import relax as R

from tests.integer_case import check, noise, quantized, same_unexposed, seeded
from tests.integer_networks import IMAGE, Block, conv
from tests.passes.annotated_case import lowered, operators
from tvm_rsq import QuantConfig
from tvm_rsq.compiler import compile_exposed
from tvm_rsq.passes.concat_in_place import concat_in_place


@I.ir_module
class Before:
    @R.function(private=True)
    def conv2d_a(x_q: R.Tensor((1, 2, 2, 4), "uint8"), w: R.Tensor((3, 1, 1, 4), "int8")) -> R.Tensor((1, 2, 2, 3), "uint8"):
        R.func_attr({"rsq.kind": "conv2d", "rsq.layer": "w", "rsq.tensor": "a"})
        with R.dataflow():
            x = R.dequantize(x_q, R.const(0.5, "float32"), R.const(0, "uint8"), axis=-1, out_dtype="float32")
            w_dq = R.dequantize(w, R.const(0.25, "float32"), R.const(0, "int8"), axis=-1, out_dtype="float32")
            a = R.nn.conv2d(x, w_dq, data_layout="NHWC", kernel_layout="OHWI")
            a_q = R.quantize(a, R.const(2.0, "float32"), R.const(7, "uint8"), axis=-1, out_dtype="uint8")
            R.output(a_q)
        return a_q

    @R.function(private=True)
    def move_p(x_q: R.Tensor((1, 2, 2, 4), "uint8")) -> R.Tensor((1, 2, 2, 4), "uint8"):
        R.func_attr({"rsq.kind": "move", "rsq.layer": "", "rsq.tensor": "p"})
        with R.dataflow():
            x = R.dequantize(x_q, R.const(0.5, "float32"), R.const(0, "uint8"), axis=-1, out_dtype="float32")
            p = R.nn.max_pool2d(x, layout="NHWC")
            p_q = R.quantize(p, R.const(0.5, "float32"), R.const(0, "uint8"), axis=-1, out_dtype="uint8")
            R.output(p_q)
        return p_q

    @R.function(private=True)
    def concat_y(p_q: R.Tensor((1, 2, 2, 4), "uint8"), a_q: R.Tensor((1, 2, 2, 3), "uint8")) -> R.Tensor((1, 2, 2, 7), "uint8"):
        R.func_attr({"rsq.kind": "concat", "rsq.layer": "", "rsq.tensor": "y"})
        with R.dataflow():
            p = R.dequantize(p_q, R.const(0.5, "float32"), R.const(0, "uint8"), axis=-1, out_dtype="float32")
            a = R.dequantize(a_q, R.const(2.0, "float32"), R.const(7, "uint8"), axis=-1, out_dtype="float32")
            y = R.concat((p, a), axis=3)
            y_q = R.quantize(y, R.const(2.0, "float32"), R.const(7, "uint8"), axis=-1, out_dtype="uint8")
            R.output(y_q)
        return y_q

    @R.function
    def main(x_q: R.Tensor((1, 2, 2, 4), "uint8"), w: R.Tensor((3, 1, 1, 4), "int8")):
        R.func_attr({"num_input": 1})
        cls = Before
        with R.dataflow():
            p_q = cls.move_p(x_q)
            a_q = cls.conv2d_a(x_q, w)
            y_q = cls.concat_y(p_q, a_q)
            R.output(y_q)
        return y_q


def test_before_and_after():
    given = tvm.ir.load_json(tvm.ir.save_json(Before))
    got = concat_in_place(Before)
    after = tvm.IRModule(dict(Before.functions_items()))
    marks = {"conv2d_a": ("rsq.part", {"whole": "y", "pitch": 7, "offset": 4}), "concat_y": ("rsq.in_place", ["a_q"])}
    for name, mark in marks.items():
        after[Before.get_global_var(name)] = Before[name].with_attr(*mark)
    tvm.ir.assert_structural_equal(got, after)
    tvm.ir.assert_structural_equal(Before, given)


def fire(**parts):
    """A function of the squeezed image between two convolutions, whose last has 32 inputs."""
    return lambda function: seeded(Block(lambda m, x: m.last(function(m, F.relu(m.squeeze(x)))), squeeze=conv(3, 6, 1), **parts))


FIRE = fire(a=conv(6, 12, 1), b=conv(6, 20, 3, padding=1), last=conv(32, 4, 1))
WITH_POOL = fire(a=conv(6, 12, 1), b=conv(6, 14, (1, 3), padding=(0, 1)), last=conv(32, 4, 1))
IN_PLACE = {
    "every input": (FIRE(lambda m, s: torch.cat([F.relu(m.a(s)), F.relu(m.b(s))], 1)), 2, 0),
    "a pool between": (WITH_POOL(lambda m, s: torch.cat([m.a(s), F.avg_pool2d(s, 3, 1, 1), m.b(s)], 1)), 2, 1),
    "a table between": (WITH_POOL(lambda m, s: torch.cat([m.a(s), torch.tanh(s), m.b(s)], 1)), 2, 1),
    "a table alone": (fire(last=conv(6, 4, 1))(lambda m, s: torch.cat([torch.tanh(s)], 1)), 0, None),
    "a clamp behind it": (FIRE(lambda m, s: torch.cat([m.a(s), m.b(s)], 1).relu()), 2, 0),
    "read twice": (FIRE(lambda m, s: (lambda a: torch.cat([a, m.b(s + a[:, :6])], 1))(m.a(s))), 1, 1),
    "twice the same": (fire(a=conv(6, 16, 1), last=conv(32, 4, 1))(lambda m, s: (lambda a: torch.cat([a, a], 1))(m.a(s))), 0, 1),
    "pooled as well": (fire(a=conv(6, 16, 1), last=conv(32, 4, 1))(
        lambda m, s: (lambda a: torch.cat([a, F.max_pool2d(a, 3, 1, 1)], 1))(m.a(s))), 0, 1),
    "along the height": (fire(a=conv(6, 32, 1), b=conv(6, 32, 3, padding=1), last=conv(32, 4, 1))(
        lambda m, s: torch.cat([m.a(s), m.b(s)], 2)), 0, 1),
    "a depthwise part": (fire(a=conv(6, 26, 1), b=conv(6, 6, 3, padding=1, groups=6), last=conv(32, 4, 1))(
        lambda m, s: torch.cat([m.a(s), m.b(s)], 1)), 2, 0),
}  # fmt: skip


@pytest.mark.parametrize("name", IN_PLACE)
def test_parts_in_place_and_copies(name):
    module, parts, copies = IN_PLACE[name]
    found = quantized(module, [IMAGE])
    mod, calls = lowered(found)
    kernels = [call.kernel for call in calls]
    assert copies is None or kernels.count("concat") == copies
    # The first of the parts makes the tensor, the others and the copies store into it.
    assert operators(mod).count("call_tir_inplace") == (parts - 1 + copies if parts else 0)
    same_unexposed(found)


def test_exposed_parts_are_tensors_of_their_own():
    found = quantized(IN_PLACE["a pool between"][0], [IMAGE])
    check(found)
    image = noise(*IMAGE, seed=3)
    np.testing.assert_array_equal(found.compile("llvm").run(image), compile_exposed(found).run(image)[0])


def test_a_part_with_bits_of_its_own_is_requantized():
    found = quantized(IN_PLACE["every input"][0], [IMAGE], QuantConfig(scheme="per_channel", overrides={"a.weight": "activation_bits=4"}))
    bits = sorted(quant.bits for quant in found.plan.tensors.values())
    assert bits[0] == 4 and bits[1] == 8
    assert [call.kernel for call in lowered(found)[1]].count("concat") == 1
    same_unexposed(found)
