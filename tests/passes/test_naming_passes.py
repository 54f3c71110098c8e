"""NameBindings and separate_layers: every tensor and every layer has a name of its own."""

from __future__ import annotations

import numpy as np
from canonical_case import function
from plain_compile import run_plain
from tvm import relax
from tvm.ir import assert_structural_equal
from tvm.relax.analysis import well_formed

from tvm_rsq.passes.name_bindings import NameBindings
from tvm_rsq.passes.separate_layers import separate_layers

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


def shared():
    return function(lambda e, x, w: op.nn.conv2d(e(op.nn.conv2d(x, w)), w), [(1, 2, 6, 6), (2, 2, 3, 3)])


def test_a_shared_weight_is_copied():
    w = np.random.default_rng(1).standard_normal((2, 2, 3, 3)).astype(np.float32)
    before = shared()
    module, params = separate_layers(before, {"v1": w})
    assert list(params) == ["v1", "v1.1"] and [var.name for var in module["main"].params] == ["v0", "v1", "v1.1"]
    expected = function(lambda e, x, w, copy: op.nn.conv2d(e(op.nn.conv2d(x, w)), copy), [(1, 2, 6, 6), (2, 2, 3, 3), (2, 2, 3, 3)])
    assert_structural_equal(module, expected)
    assert_structural_equal(before, shared())
    x = np.random.default_rng(2).standard_normal((1, 2, 6, 6)).astype(np.float32)
    np.testing.assert_array_equal(run_plain(module, [x, *params.values()])[0], run_plain(before, [x, w])[0])
    again, params_again = separate_layers(module, params)
    assert again.same_as(module) and list(params_again) == list(params)


def test_a_shared_bias_is_copied_too():
    body = lambda e, x, w, b: op.add(e(op.nn.conv2d(e(op.add(e(op.nn.conv2d(x, w)), b)), w)), b)  # noqa: E731
    module, params = separate_layers(function(body, [(1, 2, 6, 6), (2, 2, 1, 1), (1, 2, 1, 1)]), dict.fromkeys(("v1", "v2"), np.ones(1)))
    assert list(params) == ["v1", "v2", "v1.1", "v2.1"]
    reads = [[arg.name for arg in binding.value.args] for block in module["main"].body.blocks for binding in block.bindings]
    assert [names[1] for names in reads] == ["v1", "v2", "v1.1", "v2.1"]
