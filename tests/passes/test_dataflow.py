"""The view of main by names: structure, users, quantization, the same before and after annotation."""

from __future__ import annotations

import numpy as np
import pytest
from tvm import relax
from tvm.script import ir as I
from tvm.script import relax as R

from tests.passes.annotated_case import model_of, quantized
from tests.passes.islands_network import Network, model
from tests.passes.test_annotate_qdq import After, Before
from tvm_rsq.passes.dataflow import OUTPUT, Dataflow, operator_of, variables_of


def test_nodes_users_and_parameters():
    view = Dataflow(Before)
    assert [(node.name, node.op, node.operands) for node in view.nodes.values()] == [
        ("conv", "nn.conv2d", ("x", "w")), ("out", "add", ("conv", "b")), ("y", "nn.relu", ("out",)), ("p", "nn.max_pool2d", ("y",)),
        ("z", "nn.conv2d", ("p", "v")),
    ]  # fmt: skip
    assert view.users["y"] == ["p"] and view.users["z"] == [OUTPUT] and view.params == {"w", "b", "v"}
    assert view.sole_user("y") == "p" and view.sole_user("z") is None
    assert view.shape("p") == (1, 3, 3, 8) and view.is_param("w") and not view.is_param("x") and not view.is_param(None)


def test_quantize_and_dequantize_are_looked_through():
    before, after = Dataflow(Before), Dataflow(After)
    assert {name: (node.op, node.operands) for name, node in before.nodes.items()} == {
        n: (o.op, o.operands) for n, o in after.nodes.items()
    }
    assert before.users == after.users and not before.quantization
    scale, zero = after.quantization["x"]
    assert (float(scale), int(zero)) == (0.5, 7) and after.qmax == {"y": 63}
    assert float(after.quantization["b"][0]) == 0.125


@pytest.mark.parametrize("bits", [8, 6, 4])
def test_a_whole_network_has_one_structure(bits):
    found = quantized(model(), activation_bits=bits)
    before, after = Dataflow(found.model.module), Dataflow(found.annotated.module)
    assert before.users == after.users and list(before.nodes) == list(after.nodes)
    for name, quant in found.plan.tensors.items():
        scale, zero = after.quantization[name]
        assert (float(scale), int(zero), after.qmax.get(name, 255)) == (quant.scale, quant.zero_point, 2**quant.bits - 1)


def test_tuples_constants_and_repeated_operands():
    @I.ir_module
    class Tuples:
        @R.function
        def main(x: R.Tensor((1, 4), "float32")):
            R.func_attr({"num_input": 1})
            with R.dataflow():
                parts = R.split(x, indices_or_sections=2, axis=1)
                left = parts[0]
                twice = R.add(left, left)
                more = R.add(twice, R.const(1.0, "float32"))
                copy = more
                both = R.concat((copy, twice), axis=1)
                R.output(both, more)
            return (both, more)

    view = Dataflow(Tuples)
    assert view.nodes["parts"].op == "split" and view.nodes["left"].op == "tuple_get_item"
    assert view.nodes["twice"].operands == ("left", "left") and view.users["left"] == ["twice"], "a user is listed once"
    assert view.operand("more", 1) is None and view.operand("more", 0) == "twice"
    assert view.nodes["both"].operands == ("more", "twice") and view.users["more"] == ["both", OUTPUT]
    assert view.sole_user("more") is None


def test_expressions():
    x = relax.Var("x", relax.TensorType((2, 4), "float32"))
    assert operator_of(relax.op.nn.relu(x)) == "nn.relu" and operator_of(relax.Tuple([x])) == "tuple"
    assert operator_of(relax.const(np.float32(1))) == "constant"
    assert [var.name for var in variables_of(relax.op.concat([x, x]))] == ["x", "x"]


def test_a_module_without_parameters():
    assert Dataflow(model_of(Network).module).num_input == 1
