"""NameBindings: every tensor has a name of its own, after its operator."""

from __future__ import annotations

import numpy as np
from canonical_case import function
from plain_compile import run_plain
from tvm import relax
from tvm.ir import assert_structural_equal
from tvm.relax.analysis import well_formed

from tvm_rsq.passes.name_bindings import NameBindings

op = relax.op


def names(module):
    return [binding.var.name for block in module["main"].body.blocks for binding in block.bindings]


def test_tensors_are_called_by_operator_and_number():
    before = function(lambda e, x: op.nn.relu(e(op.tanh(e(op.nn.relu(x))))), [(2, 3)])
    after = NameBindings()(before)
    assert names(after) == ["relu", "tanh", "relu_1"]
    assert after["main"].body.body.name == "relu_1"
    assert_structural_equal(after, before)
    assert names(NameBindings()(after)) == names(after)
    well_formed(after)


def test_a_parameter_keeps_its_name():
    builder = relax.BlockBuilder()
    x, relu = (relax.Var(name, relax.TensorType((2, 3), "float32")) for name in ("x.0", "relu"))
    with builder.function("main", [x, relu]):
        with builder.dataflow():
            out = builder.emit_output(op.add(builder.emit(op.nn.relu(x)), relu))
        builder.emit_func_output(out)
    after = NameBindings()(builder.get())
    assert [var.name for var in after["main"].params] == ["x.0", "relu"]
    assert names(after) == ["relu_1", "add"]


def test_results_are_variables_without_copies():
    def body(emit, x):
        first = emit(op.nn.relu(x))
        return relax.Tuple([emit(op.tanh(first)), first])

    before = function(body, [(2, 3)])
    after = NameBindings()(before)
    assert names(after) == ["relu", "tanh"]
    assert [field.name for field in after["main"].body.body.fields] == ["tanh", "relu"]
    x = np.random.default_rng(0).standard_normal((2, 3)).astype(np.float32)
    for got, expected in zip(run_plain(after, [x]), run_plain(before, [x]), strict=True):
        np.testing.assert_array_equal(got, expected)
